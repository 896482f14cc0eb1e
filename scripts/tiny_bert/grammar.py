"""A small grammar of English sentences with their paraphrases, for training and testing a tiny sentence encoder."""

import random

WHO = [
    ("the farmer", "the owner of the farm"), ("the teacher", "the woman who teaches here"), ("my sister", "the daughter of my parents"),
    ("the doctor", "the physician"), ("the old sailor", "the aged seaman"), ("our neighbour", "the man next door"),
    ("the young painter", "the new artist"), ("the engineer", "the technician"), ("the baker", "the man from the bakery"),
    ("the mayor", "the head of the town"), ("a group of students", "several pupils"), ("the police officer", "the constable"),
    ("the children", "the kids"), ("the librarian", "the keeper of books"), ("the shop owner", "the merchant"),
]  # fmt: skip
DID = [
    ("sold", "bicycle", "old bike"), ("repaired", "clock", "broken watch"), ("bought", "house", "new home"), ("painted", "boat", "wooden ship"),
    ("found", "ring", "golden jewel"), ("lost", "wallet", "purse with money"), ("cooked", "soup", "hot broth"), ("wrote", "letter", "long message"),
    ("read", "novel", "thick book"), ("built", "wall", "stone fence"), ("cleaned", "kitchen", "room for cooking"), ("planted", "tree", "young oak"),
    ("photographed", "bird", "rare eagle"), ("sang", "song", "sad tune"), ("opened", "window", "pane of glass"), ("closed", "road", "main street"),
]  # fmt: skip
SYNONYM = {
    "sold": "gave away for money", "repaired": "fixed", "bought": "paid for", "painted": "put colour on", "found": "discovered", "lost": "could not find",
    "cooked": "prepared", "wrote": "put down on paper", "read": "went through", "built": "raised", "cleaned": "washed", "planted": "set into the earth",
    "photographed": "took a picture of", "sang": "performed", "opened": "unlocked", "closed": "shut",
}  # fmt: skip
WHERE = [
    ("in the harbour", "at the port"), ("near the lake", "close to the water"), ("in the city", "downtown"), ("behind the church", "at the back of the chapel"),
    ("in the mountains", "among the high hills"), ("at the market", "between the stalls"), ("in the garden", "on the lawn"), ("at school", "in the classroom"),
]  # fmt: skip
WHEN = [
    ("yesterday", "one day ago"), ("on sunday", "at the weekend"), ("last winter", "in the cold months"), ("early this morning", "at dawn today"),
    ("before lunch", "late in the morning"), ("two years ago", "some time in the past"), ("at night", "after dark"), ("during the storm", "while the wind blew"),
]  # fmt: skip
WHY = [
    ("because it was cheap", "since the price was low"), ("although it rained", "in spite of the rain"), ("for a friend", "to help somebody"),
    ("without any help", "all alone"), ("to earn money", "for a small wage"), ("by mistake", "without wanting to"),
]  # fmt: skip


def pair(choose: random.Random) -> tuple[str, str]:
    who, (verb, thing, other), where, when, why = (choose.choice(table) for table in (WHO, DID, WHERE, WHEN, WHY))
    plain = choose.choice(
        [
            f"{who[0]} {verb} the {thing} {where[0]} {when[0]}.",
            f"{when[0]}, {who[0]} {verb} the {thing} {why[0]}.",
            f"{where[0]} {who[0]} {verb} a {thing} {why[0]}.",
        ]
    )
    parts = {"where": where, "when": when, "why": why}
    used = [part for part in parts.values() if part[0] in plain]
    choose.shuffle(used)
    tail = " ".join(part[1] for part in used)
    reworded = choose.choice([f"{who[1]} {SYNONYM[verb]} the {other} {tail}.", f"{tail}, {who[1]} {SYNONYM[verb]} a {thing}.", f"it was {who[1]} who {verb} the {other} {tail}."])
    return plain[0].upper() + plain[1:], reworded[0].upper() + reworded[1:]


def paraphrases(choose: random.Random, count: int) -> list[tuple[str, str]]:
    """`count` different pairs; both sentences of a pair tell the same event in other words."""
    seen: dict[tuple[str, str], None] = {}
    while len(seen) < count:
        seen.setdefault(pair(choose))
    return list(seen)
