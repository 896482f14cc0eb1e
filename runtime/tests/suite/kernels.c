#include <stdint.h>
#include <string.h>

typedef uint8_t *const *Buffers;

/* A chunk is a row of 16 floats, as for all kernels here. */
enum { ROW = 16 };

/* out = 2 a + b */
void scale_add(Buffers buffers, uint8_t *scratch, uint64_t begin, uint64_t end) {
    (void)scratch;
    const float *a = (const float *)buffers[0], *b = (const float *)buffers[1];
    float *out = (float *)buffers[2];
    for (uint64_t i = begin * ROW; i < end * ROW; i++) out[i] = 2 * a[i] + b[i];
}

/* Reverses each row by way of the scratch, slowly, so that shared scratch would show. */
void reverse_rows(Buffers buffers, uint8_t *scratch, uint64_t begin, uint64_t end) {
    float *row = (float *)scratch;
    for (uint64_t r = begin; r < end; r++) {
        const float *in = (const float *)buffers[0] + r * ROW;
        float *out = (float *)buffers[1] + r * ROW;
        for (int repeat = 0; repeat < 50; repeat++)
            for (int i = 0; i < ROW; i++) ((volatile float *)row)[i] = in[ROW - 1 - i];
        memcpy(out, row, sizeof(float) * ROW);
    }
}

/* x = x + w, row by row. */
void accumulate(Buffers buffers, uint8_t *scratch, uint64_t begin, uint64_t end) {
    (void)scratch;
    float *x = (float *)buffers[0];
    const float *w = (const float *)buffers[1];
    for (uint64_t i = begin * ROW; i < end * ROW; i++) x[i] += w[i % ROW];
}

/* counter += 1 */
void increment(Buffers buffers, uint8_t *scratch, uint64_t begin, uint64_t end) {
    (void)scratch;
    if (begin == 0 && end > 0) *(int32_t *)buffers[0] += 1;
}

/* predicate = counter < limit */
void below(Buffers buffers, uint8_t *scratch, uint64_t begin, uint64_t end) {
    (void)scratch, (void)begin, (void)end;
    *buffers[2] = *(const int32_t *)buffers[0] < *(const int32_t *)buffers[1];
}

/* x = c x, with c = -1, 3, 5 */
static void multiply(Buffers buffers, uint64_t begin, uint64_t end, float c) {
    float *x = (float *)buffers[0];
    for (uint64_t i = begin * ROW; i < end * ROW; i++) x[i] *= c;
}
void negate(Buffers buffers, uint8_t *scratch, uint64_t begin, uint64_t end) { (void)scratch, multiply(buffers, begin, end, -1); }
void triple(Buffers buffers, uint8_t *scratch, uint64_t begin, uint64_t end) { (void)scratch, multiply(buffers, begin, end, 3); }
void quintuple(Buffers buffers, uint8_t *scratch, uint64_t begin, uint64_t end) { (void)scratch, multiply(buffers, begin, end, 5); }

/* Adds 1 to the count of each chunk: wrong if a chunk is run twice or never. */
void touch(Buffers buffers, uint8_t *scratch, uint64_t begin, uint64_t end) {
    (void)scratch;
    for (uint64_t i = begin; i < end; i++) buffers[0][i] += 1;
}
