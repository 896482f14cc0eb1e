//! The e-graph: terms over the values of one region, with types and constness as analysis.

use crate::simplify::template_key;
use egg::{Analysis, DidMerge, EGraph, Id, Language};
use icd_core::{
    Literal, TensorType,
    graph::{Func, Loc, Op, OpKind, Region, ValueId},
};
use std::collections::{BTreeMap, HashMap};

/// What stands at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Head {
    /// A value made outside the modelled operations: parameter, result of control flow, of an unmodelled operation.
    Outer(ValueId),
    /// An operation: an index into the templates.
    Term(u32),
}

/// A node: an operation applied to classes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Node {
    pub(crate) head: Head,
    pub(crate) children: Vec<Id>,
}

impl Language for Node {
    type Discriminant = Head;
    fn discriminant(&self) -> Head {
        self.head
    }
    fn matches(&self, other: &Self) -> bool {
        self.head == other.head && self.children.len() == other.children.len()
    }
    fn children(&self) -> &[Id] {
        &self.children
    }
    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.children
    }
}

/// An operation without operands.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) kind: OpKind,
    pub(crate) regions: Vec<Region>,
    pub(crate) ty: TensorType,
    region_key: String,
    pub(crate) loc: Loc,
}

/// What is known of a class.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    /// `None` for tokens and other values that are no static tensors.
    pub(crate) ty: Option<TensorType>,
    /// Computed from constants alone.
    pub(crate) constant: bool,
}

/// Templates, and the types of outer values.
#[derive(Default)]
pub(crate) struct Facts {
    templates: Vec<Template>,
    index: HashMap<String, u32>,
    outer: BTreeMap<ValueId, Option<TensorType>>,
}

impl Analysis<Node> for Facts {
    type Data = Fact;

    fn make(egraph: &mut EGraph<Node, Self>, node: &Node, _: Id) -> Fact {
        match node.head {
            Head::Outer(v) => Fact { ty: egraph.analysis.outer.get(&v).cloned().flatten(), constant: false },
            Head::Term(t) => {
                let template = &egraph.analysis.templates[t as usize];
                let is_literal = matches!(template.kind, OpKind::Constant(_));
                let ty = Some(template.ty.clone());
                let constant = is_literal || !node.children.is_empty() && node.children.iter().all(|c| egraph[*c].data.constant);
                Fact { ty, constant }
            }
        }
    }

    fn merge(&mut self, a: &mut Fact, b: Fact) -> DidMerge {
        debug_assert_eq!(a.ty, b.ty, "classes of different types merged");
        let (before, other) = (a.constant, b.constant);
        a.constant |= b.constant;
        DidMerge(a.constant != before, a.constant != other)
    }
}

/// A term to be added: an existing class, or an operation on terms.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "proposals are few and short-lived")]
pub(crate) enum Term {
    Have(Id),
    New {
        kind: OpKind,
        ty: TensorType,
        children: Vec<Term>,
    },
    /// The operation of a template, regions included, on other operands and with another result type.
    Like {
        template: u32,
        ty: TensorType,
        children: Vec<Term>,
    },
}

impl Term {
    /// A new operation.
    pub(crate) fn new(kind: OpKind, ty: TensorType, children: Vec<Term>) -> Self {
        Term::New { kind, ty, children }
    }
}

/// The e-graph of a region.
pub(crate) struct Terms {
    pub(crate) egraph: EGraph<Node, Facts>,
}

impl Terms {
    pub(crate) fn new() -> Self {
        Terms { egraph: EGraph::new(Facts::default()) }
    }

    /// The class of an outer value.
    pub(crate) fn outer(&mut self, func: &Func, v: ValueId) -> Id {
        let ty = func.tensor(v).filter(|t| t.shape().is_some()).cloned();
        self.egraph.analysis.outer.insert(v, ty);
        self.egraph.add(Node { head: Head::Outer(v), children: vec![] })
    }

    /// The class of an operation of the program on classes.
    pub(crate) fn op(&mut self, func: &Func, op: &Op, ty: &TensorType, children: Vec<Id>) -> Id {
        let region_key = if op.regions.is_empty() { String::new() } else { template_key(func, op) };
        let template = self.intern(op.kind.clone(), op.regions.clone(), region_key, ty.clone(), op.loc);
        self.egraph.add(Node { head: Head::Term(template), children })
    }

    fn intern(&mut self, kind: OpKind, regions: Vec<Region>, region_key: String, ty: TensorType, loc: Loc) -> u32 {
        let key = match &kind {
            OpKind::Constant(l) => crate::simplify::literal_key(l),
            kind => format!("{kind:?}|{ty:?}|{region_key}"),
        };
        let facts = &mut self.egraph.analysis;
        *facts.index.entry(key).or_insert_with(|| {
            facts.templates.push(Template { kind, regions, ty, region_key, loc });
            (facts.templates.len() - 1) as u32
        })
    }

    /// Adds a term.
    pub(crate) fn add(&mut self, term: &Term) -> Id {
        let (template, children) = match term {
            Term::Have(id) => return self.egraph.find(*id),
            Term::New { kind, ty, children } => {
                (self.intern(kind.clone(), Vec::new(), String::new(), ty.clone(), Loc::default()), children)
            }
            Term::Like { template, ty, children } => {
                let t = self.template(*template).clone();
                (self.intern(t.kind, t.regions, t.region_key, ty.clone(), t.loc), children)
            }
        };
        let children = children.iter().map(|c| self.add(c)).collect();
        self.egraph.add(Node { head: Head::Term(template), children })
    }

    pub(crate) fn template(&self, t: u32) -> &Template {
        &self.egraph.analysis.templates[t as usize]
    }

    /// The operation of a node; `None` for outer values.
    pub(crate) fn kind(&self, node: &Node) -> Option<&OpKind> {
        match node.head {
            Head::Term(t) => Some(&self.template(t).kind),
            Head::Outer(_) => None,
        }
    }

    pub(crate) fn ty(&self, id: Id) -> Option<&TensorType> {
        self.egraph[id].data.ty.as_ref()
    }

    pub(crate) fn is_constant(&self, id: Id) -> bool {
        self.egraph[id].data.constant
    }

    /// The nodes of a class in a fixed order.
    pub(crate) fn nodes(&self, id: Id) -> &[Node] {
        &self.egraph[id].nodes
    }

    /// The literal of a class, if one of its nodes is a constant.
    pub(crate) fn literal(&self, id: Id) -> Option<&Literal> {
        self.nodes(id).iter().find_map(|n| self.kind(n)?.as_constant())
    }

    /// Classes in order.
    pub(crate) fn class_ids(&self) -> Vec<Id> {
        let mut ids: Vec<Id> = self.egraph.classes().map(|c| c.id).collect();
        ids.sort_unstable();
        ids
    }
}
