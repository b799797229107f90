/*

lrq.h - a decoder of .lrq images in one file of C99. MIT licence, see LICENSE.

A .lrq file holds indices; a model file (.lrqm, made by `lrq models export`) says what they mean. SPEC.md defines both
and the pixels, bit by bit; its words are the identifiers here.

-- How to use it

    #define LRQ_IMPLEMENTATION   // in one C file of the program
    #include "lrq.h"

    lrq_model *model;
    lrq_header header;
    if (lrq_model_open(&model, model_bytes, model_size, NULL) == LRQ_OK
        && lrq_read_header(&header, bytes, size) == LRQ_OK
        && lrq_size(&header, 1) <= capacity)
        result = lrq_decode(pixels, capacity, model, bytes, size, NULL, NULL);
    lrq_model_close(model);

Pixels are rows from top to bottom, without gaps, one byte a channel: grey, grey and alpha, RGB or RGBA.

-- What it promises

No dependency but libc, and of libc only memcpy, memset, memcmp, memchr, and malloc and free unless the caller brings an
allocator. No global state: any number of threads may share a model. Every size is checked before it is used. Integers
alone, so the pixels are the same on every machine; right shifts of negative numbers must be arithmetic, as they are on
all of today's. Beside the pixels and the model, a decoder needs the indices of two or three strips (about 0.6 bytes for
each of their pixels) and a few rows of each scale, not the planes of the image.

*/

#ifndef LRQ_H
#define LRQ_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The exit codes of SPEC.md, "Errors". */
typedef enum {
    LRQ_OK = 0,
    LRQ_MEMORY = 1,        /* the allocator returned NULL */
    LRQ_USAGE = 2,         /* options that there are not, or less capacity than the pixels take */
    LRQ_NOT_VALID = 3,     /* not a .lrq file, or a damaged one */
    LRQ_NOT_SUPPORTED = 4, /* another version, an unknown critical chunk, another model, or a model that is damaged */
    LRQ_LIMIT = 5,         /* more pixels than max_pixels */
    LRQ_INCOMPLETE = 7     /* the pixels are there, as far as the file is: only with `partial` */
} lrq_result;

/* Where memory comes from. allocate returns NULL if there is none, else memory for any type; release is given what
   allocate returned. A NULL allocator means malloc and free. */
typedef struct {
    void *(*allocate)(void *user, size_t size);
    void (*release)(void *user, void *memory);
    void *user;
} lrq_allocator;

/* The header fields of SPEC.md, "Header fields". */
typedef struct {
    uint32_t width, height;
    int colour, smoothing, rank, iterations, band, alpha;
    uint8_t model[4];
} lrq_header;

/* shrink: 1, 2, 4, 8 or 16, see SPEC.md, "Reduced pixels". partial: 1 to draw what an incomplete file holds, see
   SPEC.md, "Incomplete files". max_pixels: of the whole image, 0 for LRQ_MAX_PIXELS. A NULL pointer means { 1, 0, 0
   }. */
typedef struct {
    int shrink;
    int partial;
    uint64_t max_pixels;
} lrq_options;

#define LRQ_MAX_PIXELS 268435456

typedef struct lrq_model lrq_model;

/* Open a model file. The data must stay as they are until the model is closed. */
lrq_result lrq_model_open(lrq_model **model, const uint8_t *data, size_t size, const lrq_allocator *allocator);
void lrq_model_close(lrq_model *model); /* NULL is fine */

/* The 4 bytes that files name the model by. */
const uint8_t *lrq_model_fingerprint(const lrq_model *model);

/* Read the header: checks 1 to 5 of SPEC.md, "Errors". The first 64 bytes of a file are enough; but the first chunk
   vouches for the header, so if they cut it short, nothing does. */
lrq_result lrq_read_header(lrq_header *header, const uint8_t *data, size_t size);

/* Rows, columns and channels of the pixels, and their product. `shrink` as in the options. */
uint32_t lrq_rows(const lrq_header *header, int shrink);
uint32_t lrq_columns(const lrq_header *header, int shrink);
int lrq_channels(const lrq_header *header);
uint64_t lrq_size(const lrq_header *header, int shrink);

/* Decode a file. After any result but LRQ_OK and LRQ_INCOMPLETE the pixels are undefined. */
lrq_result lrq_decode(uint8_t *pixels, size_t capacity, const lrq_model *model, const uint8_t *data, size_t size,
                      const lrq_options *options, const lrq_allocator *allocator);

#ifdef __cplusplus
}
#endif
#endif /* LRQ_H */

#ifdef LRQ_IMPLEMENTATION

#include <string.h>
#ifndef LRQ_NO_MALLOC
#include <stdlib.h>
#endif

/* ---- Numbers of SPEC.md, "Limits" and "Number formats" */

#define LRQ_MAX_SIDE 65535
#ifndef LRQ_STRIP_PIXELS /* tests make it smaller */
#define LRQ_STRIP_PIXELS 1048576
#endif
#define LRQ_MAX_SPAN 1024
#define LRQ_MAX_SCALES 10 /* a span of 1,024 and patches of two pixels */
#define LRQ_MAX_ITERATIONS 32
#define LRQ_MAX_CODEWORDS 65536
#define LRQ_MAX_HIDDEN 256
#define LRQ_MAX_RANK 4
#define LRQ_MAX_BYTES 268435456
#define LRQ_PLANE_LIMIT 2047
#define LRQ_WEIGHT_BITS 9
#define LRQ_EXACT 16777216
#define LRQ_TOTAL 16777216 /* what the frequencies of a table sum to */
#define LRQ_COSTS 511      /* the highest cost is 510 */

/* ---- Memory: blocks that are released together */

typedef struct lrq_block {
    struct lrq_block *next;
    uint64_t align[2];
} lrq_block;

typedef struct {
    lrq_allocator allocator;
    lrq_block *blocks;
} lrq_pool;

#ifndef LRQ_NO_MALLOC
static void *lrq_malloc(void *user, size_t size)
{
    (void)user;
    return malloc(size);
}

static void lrq_free(void *user, void *memory)
{
    (void)user;
    free(memory);
}
#endif

static int lrq_pool_start(lrq_pool *pool, const lrq_allocator *allocator)
{
    pool->blocks = NULL;
    if (allocator != NULL) {
        pool->allocator = *allocator;
        return 1;
    }
#ifndef LRQ_NO_MALLOC
    pool->allocator.allocate = lrq_malloc;
    pool->allocator.release = lrq_free;
    pool->allocator.user = NULL;
    return 1;
#else
    return 0;
#endif
}

/* Zeros for count things of a size, or NULL. */
static void *lrq_take(lrq_pool *pool, uint64_t count, size_t size)
{
    lrq_block *block;
    if (count > (SIZE_MAX / 2 - sizeof(lrq_block)) / size)
        return NULL;
    block = (lrq_block *)pool->allocator.allocate(pool->allocator.user, sizeof(lrq_block) + (size_t)count * size);
    if (block == NULL)
        return NULL;
    block->next = pool->blocks;
    pool->blocks = block;
    memset(block + 1, 0, (size_t)count * size);
    return block + 1;
}

static void lrq_pool_end(lrq_pool *pool)
{
    while (pool->blocks != NULL) {
        lrq_block *block = pool->blocks;
        pool->blocks = block->next;
        pool->allocator.release(pool->allocator.user, block);
    }
}

/* ---- Bytes */

static uint32_t lrq_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int16_t lrq_le16(const uint8_t *p)
{
    int value = p[0] | p[1] << 8;
    return (int16_t)(value < 32768 ? value : value - 65536);
}

static int32_t lrq_signed(uint32_t value)
{
    return value < 0x80000000u ? (int32_t)value : -(int32_t)(0xFFFFFFFFu - value) - 1;
}

static uint32_t lrq_ceil(uint32_t a, uint32_t b)
{
    return a / b + (a % b != 0);
}

static int32_t lrq_clip(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : x;
}

static uint32_t lrq_crc(uint32_t crc, const uint8_t *data, size_t size)
{
    static const uint32_t nibbles[16] = {0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4,
                                         0x4DB26158, 0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C,
                                         0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
    size_t i;
    crc = ~crc;
    for (i = 0; i < size; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ nibbles[crc & 15];
        crc = crc >> 4 ^ nibbles[crc & 15];
    }
    return ~crc;
}

#define LRQ_ROTATE(x, n) ((x) >> (n) | (x) << (32 - (n)))

static void lrq_sha256_block(uint32_t *state, const uint8_t *data)
{
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t w[64], s[8], t1, t2;
    int i;
    for (i = 0; i < 16; i++)
        w[i] = (uint32_t)data[4 * i] << 24 | (uint32_t)data[4 * i + 1] << 16 | (uint32_t)data[4 * i + 2] << 8
               | data[4 * i + 3];
    for (; i < 64; i++)
        w[i] = w[i - 16] + w[i - 7] + (LRQ_ROTATE(w[i - 15], 7) ^ LRQ_ROTATE(w[i - 15], 18) ^ w[i - 15] >> 3)
               + (LRQ_ROTATE(w[i - 2], 17) ^ LRQ_ROTATE(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(s, state, sizeof s);
/* The eight words keep their places, and their roles move on: after eight rounds all is as before. */
#define LRQ_ROUND(a, b, c, d, e, f, g, h, i)                                                                           \
    t1 = s[h] + (LRQ_ROTATE(s[e], 6) ^ LRQ_ROTATE(s[e], 11) ^ LRQ_ROTATE(s[e], 25)) + (s[g] ^ (s[e] & (s[f] ^ s[g])))  \
         + k[i] + w[i];                                                                                                \
    t2 = (LRQ_ROTATE(s[a], 2) ^ LRQ_ROTATE(s[a], 13) ^ LRQ_ROTATE(s[a], 22))                                           \
         + ((s[a] & s[b]) | (s[c] & (s[a] | s[b])));                                                                   \
    s[d] += t1;                                                                                                        \
    s[h] = t1 + t2
    for (i = 0; i < 64; i += 8) {
        LRQ_ROUND(0, 1, 2, 3, 4, 5, 6, 7, i);
        LRQ_ROUND(7, 0, 1, 2, 3, 4, 5, 6, i + 1);
        LRQ_ROUND(6, 7, 0, 1, 2, 3, 4, 5, i + 2);
        LRQ_ROUND(5, 6, 7, 0, 1, 2, 3, 4, i + 3);
        LRQ_ROUND(4, 5, 6, 7, 0, 1, 2, 3, i + 4);
        LRQ_ROUND(3, 4, 5, 6, 7, 0, 1, 2, i + 5);
        LRQ_ROUND(2, 3, 4, 5, 6, 7, 0, 1, i + 6);
        LRQ_ROUND(1, 2, 3, 4, 5, 6, 7, 0, i + 7);
    }
    for (i = 0; i < 8; i++)
        state[i] += s[i];
}

static void lrq_sha256(uint8_t *digest, const uint8_t *data, size_t size)
{
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint8_t last[128] = {0};
    size_t at = 0, rest, padded;
    int i;
    for (; size - at >= 64; at += 64)
        lrq_sha256_block(state, data + at);
    rest = size - at;
    padded = rest < 56 ? 64 : 128;
    memcpy(last, data + at, rest);
    last[rest] = 0x80;
    for (i = 0; i < 8; i++)
        last[padded - 1 - (size_t)i] = (uint8_t)((uint64_t)size * 8 >> 8 * i);
    for (at = 0; at < padded; at += 64)
        lrq_sha256_block(state, last + at);
    for (i = 0; i < 32; i++)
        digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}

/* ---- Models */

/* Two convolutions, of a prediction or of smoothing. Weights lie in taps: a tap is a row of three, two inputs, and a
   place of three in the row, and has a pair of weights for each output. An odd number of inputs is filled up with
   zeros. */
typedef struct {
    int inputs, hidden, outputs;
    int16_t *first, *second;
    int32_t *first_bias, *second_bias;
} lrq_convolutions;

/* What turns costs of shapes into frequencies: see lrq_frequency. `missing` goes to the shape `largest`. */
typedef struct {
    uint64_t total, factor;
    uint32_t shapes, largest, missing;
} lrq_table;

typedef struct {
    int number, side, symmetries, symmetry_bits, channels, iterations; /* symmetries = 1 << symmetry_bits */
    uint32_t span, rows;                                               /* rows: shapes of the scale */
    uint32_t shapes[LRQ_MAX_ITERATIONS], starts[LRQ_MAX_ITERATIONS];
    const uint8_t *u, *v, *energy, *orientation, *frequency;
    uint32_t *symmetry_sums; /* [rows][symmetries]: the frequencies of the symmetries before */
    uint32_t depth_contexts;
    const uint8_t *depth_classes, *depths, *features, *classes;
    uint8_t *depth_levels, *levels; /* the levels of features 0 to 255: [2][3][256], [iterations + 1][4][256] */
    uint32_t contexts[LRQ_MAX_ITERATIONS], clusters[LRQ_MAX_ITERATIONS];
    const uint8_t *cluster_costs[LRQ_MAX_ITERATIONS], *member_costs[LRQ_MAX_ITERATIONS];
    lrq_table *tables[LRQ_MAX_ITERATIONS]; /* [bands][contexts] */
    uint32_t *sums[LRQ_MAX_ITERATIONS];    /* [bands][contexts][clusters]: the frequencies of the clusters before */
    lrq_convolutions prediction;           /* no hidden channels: enlargement alone */
} lrq_scale;

struct lrq_model {
    lrq_pool pool;
    uint8_t fingerprint[4];
    int channels, luma_only, bands, rank, scale_count;
    uint32_t weights[LRQ_COSTS];
    lrq_scale scales[LRQ_MAX_SCALES];
    lrq_convolutions smoothing;
};

/* ---- Frequencies */

/* E[c % 8] >> c / 8, at least 1. */
static uint32_t lrq_weight(uint32_t cost)
{
    static const uint32_t eighths[8] = {16777216, 15384775, 14107901, 12937002, 11863283, 10878679, 9975792, 9147842};
    uint32_t weight = cost / 8 < 32 ? eighths[cost % 8] >> cost / 8 : 0;
    return weight > 0 ? weight : 1;
}

/* The frequencies of n costs as sums: sums[j] of all before j, sums[n] of all. */
static void lrq_few_sums(uint32_t *sums, const uint8_t *costs, uint32_t n)
{
    uint64_t total = 0;
    uint32_t j, f, sum = 0, largest = 0, at = 0;
    for (j = 0; j < n; j++)
        total += lrq_weight(costs[j]);
    for (j = 0; j < n; j++) {
        f = 1 + (uint32_t)((uint64_t)lrq_weight(costs[j]) * (LRQ_TOTAL - n) / total);
        if (f > largest) {
            largest = f;
            at = j;
        }
        sums[j] = sum;
        sum += f;
    }
    for (j = at + 1; j < n; j++)
        sums[j] += LRQ_TOTAL - sum;
    sums[n] = LRQ_TOTAL;
}

/* Before `missing`. A weight times the factor, over 2^39, is the quotient or one less; with a smaller total it would
   not fit into 64 bits. */
static uint32_t lrq_frequency(const lrq_table *table, uint64_t weight)
{
    const uint64_t all = weight * (LRQ_TOTAL - table->shapes);
    uint64_t quotient = table->factor == 0 ? all / table->total : weight * table->factor >> 39;
    quotient += (quotient + 1) * table->total <= all;
    return 1 + (uint32_t)quotient;
}

/* The table and the sums of the clusters for the costs of all clusters and members. */
static void lrq_shape_sums(lrq_table *table, uint32_t *sums, const uint32_t *all_weights, const uint8_t *cluster,
                           uint32_t clusters, const uint8_t *member, uint32_t members)
{
    uint32_t frequencies[LRQ_COSTS] = {0}; /* none is 0 */
    uint32_t a, b, sum = 0, largest = 0;
    table->shapes = clusters * members;
    table->total = 0;
    for (a = 0; a < clusters; a++) {
        const uint32_t *weights = all_weights + cluster[a];
        for (b = 0; b < members; b++)
            table->total += weights[member[a * members + b]];
    }
    table->factor = table->total < LRQ_TOTAL ? 0 : ((uint64_t)(LRQ_TOTAL - table->shapes) << 39) / table->total;
    for (a = 0; a < clusters; a++) {
        sums[a] = sum;
        for (b = 0; b < members; b++) {
            const uint32_t cost = (uint32_t)cluster[a] + member[a * members + b];
            if (frequencies[cost] == 0)
                frequencies[cost] = lrq_frequency(table, all_weights[cost]);
            if (frequencies[cost] > largest) {
                largest = frequencies[cost];
                table->largest = a * members + b;
            }
            sum += frequencies[cost];
        }
    }
    table->missing = LRQ_TOTAL - sum;
    for (a = table->largest / members + 1; a < clusters; a++)
        sums[a] += table->missing;
}

/* Reads a model file: every call takes the next array, or sets `bad`. */
typedef struct {
    const uint8_t *data;
    size_t at, end;
    int bad;
} lrq_arrays;

/* The next array, of so many axes. A length of 0 in `shape` stands for what the array has, from `least` on; it is then
   filled in. Returns the bytes. */
static const uint8_t *lrq_array(lrq_arrays *from, size_t size, int axes, uint32_t *shape, uint32_t least, uint32_t most)
{
    uint64_t bytes = size;
    const uint8_t *start;
    int i;
    if (from->bad || from->end - from->at < 4 * (size_t)axes) {
        from->bad = 1;
        return NULL;
    }
    for (i = 0; i < axes; i++) {
        uint32_t length = lrq_le32(from->data + from->at + 4 * i);
        if (shape[i] == 0 && length >= least && length <= most)
            shape[i] = length;
        if (length != shape[i] || length < least || (length != 0 && bytes > LRQ_MAX_BYTES / length)) {
            from->bad = 1;
            return NULL;
        }
        bytes *= length;
    }
    from->at += 4 * (size_t)axes;
    start = from->data + from->at;
    bytes += (0 - bytes) & 3;
    if (bytes > from->end - from->at) {
        from->bad = 1;
        return NULL;
    }
    from->at += (size_t)bytes;
    return start;
}

static const uint8_t *lrq_array1(lrq_arrays *from, size_t size, uint32_t a)
{
    return lrq_array(from, size, 1, &a, 1, 0);
}

static const uint8_t *lrq_array2(lrq_arrays *from, size_t size, uint32_t a, uint32_t b)
{
    uint32_t shape[2];
    shape[0] = a;
    shape[1] = b;
    return lrq_array(from, size, 2, shape, 1, 0);
}

/* A number within its range. */
static int lrq_number(lrq_arrays *from, int32_t low, int32_t high)
{
    const uint8_t *data = lrq_array(from, 4, 0, NULL, 0, 0);
    int32_t value = data != NULL ? lrq_signed(lrq_le32(data)) : low;
    if (value < low || value > high)
        from->bad = 1;
    return from->bad ? low : value;
}

static int lrq_most(const uint8_t *data, size_t count)
{
    int most = 0;
    size_t i;
    for (i = 0; i < count; i++)
        most = data[i] > most ? data[i] : most;
    return most;
}

/* Weights [outputs][inputs][3][3] in taps: [3][(inputs + 1) / 2][3][outputs][2]. Sums must stay below
   LRQ_EXACT: of |weight| * 2047, and (|bias| + others) * 2^9. */
static lrq_result lrq_weights(lrq_pool *pool, int16_t **out, int32_t **biases, const uint8_t *weights,
                              const uint8_t *bias, int outputs, int inputs, int64_t others)
{
    int o, i, j, k, pairs = (inputs + 1) / 2;
    *out = (int16_t *)lrq_take(pool, (uint64_t)outputs * pairs * 18, sizeof **out);
    *biases = (int32_t *)lrq_take(pool, (uint64_t)outputs, sizeof **biases);
    if (*out == NULL || *biases == NULL)
        return LRQ_MEMORY;
    for (o = 0; o < outputs; o++) {
        int64_t b = lrq_signed(lrq_le32(bias + 4 * o)), sum = ((b < 0 ? -b : b) + others) << LRQ_WEIGHT_BITS;
        for (i = 0; i < inputs; i++)
            for (j = 0; j < 3; j++)
                for (k = 0; k < 3; k++) {
                    int64_t w = lrq_signed(lrq_le32(weights + 4 * (((size_t)o * inputs + i) * 9 + 3 * j + k)));
                    sum += (w < 0 ? -w : w) * LRQ_PLANE_LIMIT;
                    if (sum >= LRQ_EXACT)
                        return LRQ_NOT_SUPPORTED;
                    (*out)[((((size_t)j * pairs + i / 2) * 3 + k) * outputs + o) * 2 + i % 2] = (int16_t)w;
                }
        if (sum >= LRQ_EXACT)
            return LRQ_NOT_SUPPORTED;
        (*biases)[o] = (int32_t)b;
    }
    return LRQ_OK;
}

/* The four arrays of two convolutions. */
static lrq_result lrq_read_convolutions(lrq_convolutions *out, lrq_pool *pool, lrq_arrays *from, int inputs,
                                        int outputs, int residual)
{
    uint32_t first[4], second[4];
    const uint8_t *w1, *b1, *w2, *b2;
    lrq_result result;
    first[1] = (uint32_t)inputs;
    first[2] = first[3] = second[2] = second[3] = 3;
    /* No hidden channels are a length of 0, which lrq_array takes for one that is not known. */
    first[0] = !from->bad && from->end - from->at >= 4 ? lrq_le32(from->data + from->at) : 0;
    if (first[0] > LRQ_MAX_HIDDEN)
        from->bad = 1;
    w1 = lrq_array(from, 4, 4, first, 0, 0);
    b1 = lrq_array(from, 4, 1, first, 0, 0);
    second[0] = (uint32_t)outputs;
    second[1] = first[0];
    w2 = lrq_array(from, 4, 4, second, 0, 0);
    b2 = lrq_array(from, 4, 1, second, 0, 0);
    if (from->bad)
        return LRQ_NOT_SUPPORTED;
    out->inputs = inputs;
    out->hidden = (int)first[0];
    out->outputs = outputs;
    if (out->hidden == 0)
        return LRQ_OK;
    result = lrq_weights(pool, &out->first, &out->first_bias, w1, b1, out->hidden, inputs, 1);
    if (result != LRQ_OK)
        return result;
    return lrq_weights(pool, &out->second, &out->second_bias, w2, b2, outputs, out->hidden,
                       residual ? LRQ_PLANE_LIMIT + 1 : 0);
}

/* edges [count][7] -> the levels of features 0 to 255, [count][256]: how many edges are less. */
static uint8_t *lrq_read_levels(lrq_pool *pool, const uint8_t *edges, int count)
{
    uint8_t *levels = (uint8_t *)lrq_take(pool, (uint64_t)count * 256, 1);
    int i, e, value;
    if (levels != NULL)
        for (i = 0; i < count; i++)
            for (e = 0; e < 7; e++)
                for (value = edges[7 * i + e] + 1; value < 256; value++)
                    levels[256 * i + value]++;
    return levels;
}

static lrq_result lrq_read_scale(lrq_model *model, lrq_scale *scale, int shared, int coarsest, lrq_arrays *from)
{
    const uint32_t p = (uint32_t)scale->side, g = (uint32_t)scale->symmetries, f = (uint32_t)scale->channels;
    uint32_t shape[4], d, i, n, b;
    const uint8_t *data, *symmetries, *depth_edges, *edges;
    lrq_result result;
    shape[0] = 0;
    data = lrq_array(from, 4, 1, shape, 1, LRQ_MAX_ITERATIONS);
    if (data == NULL)
        return LRQ_NOT_SUPPORTED;
    d = shape[0];
    scale->iterations = (int)d;
    for (i = 0; i < d; i++) {
        n = lrq_le32(data + 4 * i);
        if (n < 2 || n > LRQ_MAX_CODEWORDS / g || (shared && n != lrq_le32(data)))
            return LRQ_NOT_SUPPORTED;
        scale->shapes[i] = n;
        scale->starts[i] = shared ? 0 : scale->rows;
        scale->rows = scale->starts[i] + n;
    }
    if (!coarsest) {
        result = lrq_read_convolutions(&scale->prediction, &model->pool, from, scale->channels, 4 * scale->channels, 0);
        if (result != LRQ_OK)
            return result;
    }
    shape[0] = scale->rows;
    shape[1] = (uint32_t)model->rank; /* 0 until the first scale tells it */
    shape[2] = p;
    scale->u = lrq_array(from, 1, 3, shape, 1, LRQ_MAX_RANK);
    if (scale->u == NULL)
        return LRQ_NOT_SUPPORTED;
    model->rank = (int)shape[1];
    if ((uint64_t)2 * scale->rows * g * shape[1] * (p + f * p) > LRQ_MAX_BYTES)
        return LRQ_NOT_SUPPORTED;
    shape[2] = f * p;
    scale->v = lrq_array(from, 2, 3, shape, 1, 0);
    scale->energy = lrq_array1(from, 1, scale->rows);
    scale->orientation = lrq_array1(from, 1, scale->rows);
    scale->frequency = lrq_array1(from, 1, scale->rows);
    symmetries = lrq_array2(from, 1, scale->rows, g);
    shape[0] = 2;
    shape[1] = 3;
    shape[2] = 7;
    depth_edges = lrq_array(from, 1, 3, shape, 1, 0);
    scale->depth_classes = lrq_array2(from, 1, 2, 512);
    shape[0] = (uint32_t)model->bands;
    shape[1] = 2;
    shape[2] = 0;
    shape[3] = d + 1;
    scale->depths = lrq_array(from, 1, 4, shape, 1, LRQ_MAX_BYTES);
    scale->depth_contexts = shape[2];
    scale->features = lrq_array2(from, 1, d + 1, 4);
    shape[0] = d + 1;
    shape[1] = 4;
    shape[2] = 7;
    edges = lrq_array(from, 1, 3, shape, 1, 0);
    scale->classes = lrq_array2(from, 1, d + 1, 4096);
    if (from->bad || lrq_most(scale->orientation, scale->rows) > 8 || lrq_most(scale->frequency, scale->rows) > 8
        || memchr(scale->frequency, 0, scale->rows) != NULL || lrq_most(scale->features, 4 * (d + 1)) > 12
        || (uint32_t)lrq_most(scale->depth_classes, 1024) >= scale->depth_contexts)
        return LRQ_NOT_SUPPORTED;
    for (i = 0; i < scale->rows * (uint32_t)model->rank * f * p; i++)
        if (lrq_le16(scale->v + 2 * (size_t)i) == -32768)
            return LRQ_NOT_SUPPORTED;
    for (i = 0; i < d; i++) {
        shape[0] = (uint32_t)model->bands;
        shape[1] = shape[2] = 0;
        scale->cluster_costs[i] = lrq_array(from, 1, 3, shape, 1, LRQ_MAX_BYTES);
        if (from->bad || scale->shapes[i] % shape[2] != 0)
            return LRQ_NOT_SUPPORTED;
        scale->contexts[i] = shape[1];
        scale->clusters[i] = shape[2];
        shape[1] = shape[2];
        shape[2] = scale->shapes[i] / scale->clusters[i];
        scale->member_costs[i] = lrq_array(from, 1, 3, shape, 1, 0);
        if (from->bad
            || (uint32_t)lrq_most(scale->classes + 4096 * (i > 0 ? i + 1 : 0), i > 0 ? 4096 : 8192)
                   >= scale->contexts[i])
            return LRQ_NOT_SUPPORTED;
        n = (uint32_t)model->bands * scale->contexts[i];
        scale->tables[i] = (lrq_table *)lrq_take(&model->pool, n, sizeof(lrq_table));
        scale->sums[i] = (uint32_t *)lrq_take(&model->pool, (uint64_t)n * scale->clusters[i], sizeof(uint32_t));
        if (scale->tables[i] == NULL || scale->sums[i] == NULL)
            return LRQ_MEMORY;
        for (b = 0; b < n; b++) {
            const size_t at = (size_t)b * scale->clusters[i];
            lrq_shape_sums(scale->tables[i] + b, scale->sums[i] + at, model->weights, scale->cluster_costs[i] + at,
                           scale->clusters[i],
                           scale->member_costs[i] + (size_t)(b / scale->contexts[i]) * scale->shapes[i], shape[2]);
        }
    }
    scale->depth_levels = lrq_read_levels(&model->pool, depth_edges, 6);
    scale->levels = lrq_read_levels(&model->pool, edges, 4 * ((int)d + 1));
    scale->symmetry_sums = (uint32_t *)lrq_take(&model->pool, (uint64_t)scale->rows * g + 1, sizeof(uint32_t));
    if (scale->depth_levels == NULL || scale->levels == NULL || scale->symmetry_sums == NULL)
        return LRQ_MEMORY;
    for (i = 0; i < scale->rows; i++) /* each overwrites the last sum of the one before, which is always 2^24 */
        lrq_few_sums(scale->symmetry_sums + (size_t)i * g, symmetries + (size_t)i * g, g);
    return LRQ_OK;
}

static lrq_result lrq_read_model(lrq_model *model, const uint8_t *data, size_t size)
{
    static const uint8_t start[4] = {'L', 'R', 'M', 0x81};
    uint8_t digest[32];
    uint32_t shape[2];
    const uint8_t *scales;
    lrq_arrays from;
    lrq_result result;
    int shared, i, coded;
    for (i = 0; i < LRQ_COSTS; i++)
        model->weights[i] = lrq_weight((uint32_t)i);
    if (size < 40 || memcmp(data, start, 4) != 0)
        return LRQ_NOT_SUPPORTED;
    lrq_sha256(digest, data, size - 32);
    if (memcmp(digest, data + size - 32, 32) != 0)
        return LRQ_NOT_SUPPORTED;
    memcpy(model->fingerprint, data + 4, 4);
    from.data = data;
    from.at = 8;
    from.end = size - 32;
    from.bad = 0;
    shape[0] = 0;
    shape[1] = 3;
    scales = lrq_array(&from, 4, 2, shape, 1, LRQ_MAX_SCALES);
    if (scales == NULL)
        return LRQ_NOT_SUPPORTED;
    model->scale_count = (int)shape[0];
    model->channels = lrq_number(&from, 1, 3);
    shared = lrq_number(&from, 0, 1);
    model->luma_only = lrq_number(&from, 0, 1);
    model->bands = lrq_number(&from, 1, 16);
    if (from.bad || model->channels == 2 || (model->luma_only && model->scale_count < 2))
        return LRQ_NOT_SUPPORTED;
    coded = model->luma_only ? 1 : model->channels;
    result = lrq_read_convolutions(&model->smoothing, &model->pool, &from, 3 * coded + model->channels,
                                   3 * coded + model->channels, 1);
    if (result != LRQ_OK)
        return result;
    for (i = 0; i < model->scale_count; i++) {
        lrq_scale *scale = model->scales + i;
        uint32_t s = lrq_le32(scales + 12 * i), p = lrq_le32(scales + 12 * i + 4), g = lrq_le32(scales + 12 * i + 8);
        if (s != 1u << (model->scale_count - 1 - i) || p < 2 || p % 2 != 0 || p > LRQ_MAX_SPAN / s)
            return LRQ_NOT_SUPPORTED;
        scale->channels = model->luma_only && s == 1 ? 1 : model->channels;
        if (g != 1 && g != 2 && g != 8 && (g != 16 || scale->channels != 1))
            return LRQ_NOT_SUPPORTED;
        scale->number = (int)s;
        scale->side = (int)p;
        scale->span = s * p;
        scale->symmetries = (int)g;
        while (1u << scale->symmetry_bits < g)
            scale->symmetry_bits++;
        if (i > 0 && model->scales[i - 1].span % scale->span != 0)
            return LRQ_NOT_SUPPORTED;
        result = lrq_read_scale(model, scale, shared, i == 0, &from);
        if (result != LRQ_OK)
            return result;
    }
    return from.at == from.end ? LRQ_OK : LRQ_NOT_SUPPORTED;
}

lrq_result lrq_model_open(lrq_model **model, const uint8_t *data, size_t size, const lrq_allocator *allocator)
{
    lrq_pool pool;
    lrq_result result;
    *model = NULL;
    if (!lrq_pool_start(&pool, allocator))
        return LRQ_USAGE;
    *model = (lrq_model *)lrq_take(&pool, 1, sizeof **model);
    if (*model == NULL)
        return LRQ_MEMORY;
    (*model)->pool = pool;
    result = lrq_read_model(*model, data, size);
    if (result != LRQ_OK) {
        lrq_model_close(*model);
        *model = NULL;
    }
    return result;
}

void lrq_model_close(lrq_model *model)
{
    if (model != NULL) {
        lrq_pool pool = model->pool; /* the model is in one of its blocks */
        lrq_pool_end(&pool);
    }
}

const uint8_t *lrq_model_fingerprint(const lrq_model *model)
{
    return model->fingerprint;
}

/* ---- Container */

/* sealed: how many bytes the checksums so far cover. cut: 1 if the end cuts short what is read. checked: 1 if all
   checksums are known to match. */
typedef struct {
    const uint8_t *data;
    size_t at, size, sealed;
    int cut, checked;
} lrq_bytes;

static lrq_bytes lrq_bytes_of(const uint8_t *data, size_t size)
{
    lrq_bytes bytes;
    memset(&bytes, 0, sizeof bytes);
    bytes.data = data;
    bytes.size = size;
    return bytes;
}

/* 1 if there is a varint in its shortest form, of at most 5 bytes. */
static int lrq_varint(lrq_bytes *from, uint64_t *value)
{
    int shift;
    *value = 0;
    for (shift = 0; shift < 35 && from->at < from->size; shift += 7) {
        uint8_t byte = from->data[from->at++];
        *value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return byte != 0 || shift == 0;
    }
    from->cut = shift < 35;
    return 0;
}

/* length: of the payload as the chunk tells it; present: how much of it there is. */
typedef struct {
    int tag;
    const uint8_t *payload;
    uint64_t length;
    size_t present;
} lrq_chunk;

/* The next chunk: check 6. If the file ends inside its payload or its CRC-32, `chunk` tells what there is of it; its
   tag is 0 if that is nothing. */
static lrq_result lrq_next_chunk(lrq_bytes *from, lrq_chunk *chunk)
{
    const size_t sealed = from->sealed;
    size_t left;
    int tag;
    chunk->tag = 0;
    from->cut = from->at == from->size;
    if (from->cut)
        return LRQ_NOT_VALID;
    tag = from->data[from->at++];
    if (!((tag >= 'A' && tag <= 'Z') || (tag >= 'a' && tag <= 'z')) || !lrq_varint(from, &chunk->length))
        return LRQ_NOT_VALID;
    left = from->size - from->at;
    chunk->payload = from->data + from->at;
    chunk->present = chunk->length < left ? (size_t)chunk->length : left;
    from->cut = left < chunk->length || left - chunk->present < 4;
    if (from->cut) {
        chunk->tag = tag;
        return LRQ_NOT_VALID;
    }
    from->at += chunk->present;
    from->sealed = from->at;
    from->at += 4;
    if (!from->checked && lrq_crc(0, from->data + sealed, from->sealed - sealed) != lrq_le32(from->data + from->sealed))
        return LRQ_NOT_VALID;
    chunk->tag = tag;
    if ((tag & 0x20) == 0 && tag != 'I' && tag != 'A')
        return LRQ_NOT_SUPPORTED;
    return LRQ_OK;
}

/* Checks 1 to 5, and where the chunks begin. partial: the first chunk, which vouches for the header, may be cut
   short. */
static lrq_result lrq_start(lrq_header *header, lrq_bytes *from, int partial)
{
    static const uint8_t signature[3] = {'L', 'R', 'Q'};
    uint64_t width, height;
    unsigned options;
    int version;
    lrq_bytes chunks;
    lrq_chunk first;
    if (from->size < 4 || memcmp(from->data, signature, 3) != 0 || from->data[3] < 0x80)
        return LRQ_NOT_VALID;
    version = from->data[3] & 0x7F;
    from->at = 4;
    if (!lrq_varint(from, &width) || !lrq_varint(from, &height) || from->size - from->at < 6)
        return LRQ_NOT_VALID;
    options = from->data[from->at] | (unsigned)from->data[from->at + 1] << 8;
    memcpy(header->model, from->data + from->at + 2, 4);
    from->at += 6;
    chunks = *from;
    if (lrq_next_chunk(&chunks, &first) == LRQ_NOT_VALID && !(partial && chunks.cut))
        return LRQ_NOT_VALID;
    if (version != 1 || options >> 14 != 0) /* only now: damage must not pass for a newer version */
        return LRQ_NOT_SUPPORTED;
    if (width < 1 || width > LRQ_MAX_SIDE || height < 1 || height > LRQ_MAX_SIDE)
        return LRQ_NOT_VALID;
    header->width = (uint32_t)width;
    header->height = (uint32_t)height;
    header->colour = options & 1;
    header->smoothing = options >> 1 & 1;
    header->rank = 1 + (options >> 2 & 3);
    header->iterations = 1 + (options >> 4 & 31);
    header->band = options >> 9 & 15;
    header->alpha = options >> 13 & 1;
    return LRQ_OK;
}

lrq_result lrq_read_header(lrq_header *header, const uint8_t *data, size_t size)
{
    lrq_bytes from = lrq_bytes_of(data, size);
    return lrq_start(header, &from, 1);
}

uint32_t lrq_rows(const lrq_header *header, int shrink)
{
    return lrq_ceil(header->height, (uint32_t)shrink);
}

uint32_t lrq_columns(const lrq_header *header, int shrink)
{
    return lrq_ceil(header->width, (uint32_t)shrink);
}

int lrq_channels(const lrq_header *header)
{
    return (header->colour ? 3 : 1) + header->alpha;
}

uint64_t lrq_size(const lrq_header *header, int shrink)
{
    return (uint64_t)lrq_rows(header, shrink) * lrq_columns(header, shrink) * (uint64_t)lrq_channels(header);
}

/* What the chunks of a file are: the bytes from the first to the last that counts, how many of indices there are, the
   payload of alpha. */
typedef struct {
    lrq_bytes first;
    uint64_t strips;
    lrq_chunk alpha; /* its tag is 0 if there is none */
    int incomplete;
} lrq_file;

/* Checks 1 to 7. */
static lrq_result lrq_read_file(lrq_file *file, lrq_header *header, const uint8_t *data, size_t size, int partial)
{
    int metadata[3] = {0, 0, 0}, alphas = 0, i;
    lrq_bytes from = lrq_bytes_of(data, size);
    lrq_chunk chunk;
    lrq_result result;
    memset(file, 0, sizeof *file);
    result = lrq_start(header, &from, partial);
    if (result != LRQ_OK)
        return result;
    file->first = from;
    file->first.checked = 1;
    while (from.at < size) {
        const size_t start = from.at;
        result = lrq_next_chunk(&from, &chunk);
        if (result == LRQ_NOT_VALID && partial) {
            file->incomplete = 1;
            file->strips += chunk.tag == 'I';
            if (!from.cut)
                file->first.size = start;
            break;
        }
        if (result != LRQ_OK)
            return result;
        file->strips += chunk.tag == 'I';
        if (chunk.tag == 'A') {
            file->alpha = chunk;
            alphas++;
        }
        for (i = 0; i < 3; i++)
            metadata[i] += chunk.tag == "cex"[i];
    }
    if (file->strips == 0 || alphas < header->alpha) {
        if (!partial)
            return LRQ_NOT_VALID;
        file->incomplete = 1;
    }
    if (alphas > header->alpha || metadata[0] > 1 || metadata[1] > 1 || metadata[2] > 1)
        return LRQ_NOT_VALID;
    return LRQ_OK;
}

/* ---- Alpha */

/* Takes the bytes of the inflated stream one by one. row: the alpha of the row above, which that of this row replaces
   from the left. sums: if the image is reduced, of its columns. */
typedef struct {
    uint8_t *pixels, *row;
    uint32_t *sums;
    uint32_t width, height, x, y;
    int channels, filter, shrink;
} lrq_alpha;

static void lrq_alpha_row(lrq_alpha *alpha)
{
    const uint32_t n = (uint32_t)alpha->shrink, columns = lrq_ceil(alpha->width, n), y = alpha->y;
    /* The last row and column are repeated until they fill up. */
    const uint32_t times = y == alpha->height - 1 ? n - y % n : 1;
    uint32_t x, shift = 0;
    for (x = 0; x < columns * n; x++)
        alpha->sums[x / n] += times * alpha->row[x < alpha->width ? x : alpha->width - 1];
    if (y % n != n - 1 && y != alpha->height - 1)
        return;
    while (n >> shift > 1)
        shift++;
    for (x = 0; x < columns; x++) {
        alpha->pixels[((size_t)(y / n) * columns + x + 1) * alpha->channels - 1] =
            (uint8_t)((alpha->sums[x] + n * n / 2) >> 2 * shift);
        alpha->sums[x] = 0;
    }
}

static int lrq_alpha_put(lrq_alpha *alpha, uint8_t z)
{
    uint8_t value = z;
    if (alpha->y == alpha->height)
        return 0;
    if (alpha->filter == 1 && alpha->x > 0)
        value = (uint8_t)(value + alpha->row[alpha->x - 1]);
    if (alpha->filter == 2)
        value = (uint8_t)(value + alpha->row[alpha->x]);
    alpha->row[alpha->x] = value;
    if (alpha->shrink == 1)
        alpha->pixels[((size_t)alpha->y * alpha->width + alpha->x + 1) * alpha->channels - 1] = value;
    if (++alpha->x == alpha->width) {
        if (alpha->shrink > 1)
            lrq_alpha_row(alpha);
        alpha->x = 0;
        alpha->y++;
    }
    return 1;
}

/* A zlib stream (RFC 1950 and 1951). All functions return 0 or -1 once it turns out not to be one. */
#define LRQ_WINDOW 32768

typedef struct {
    const uint8_t *data;
    size_t at, size;
    uint32_t bits, adler_a, adler_b, place;
    int bit_count, full;
    uint8_t *window;
    lrq_alpha *sink;
} lrq_inflater;

typedef struct {
    uint16_t counts[16], symbols[288];
} lrq_huffman;

static int lrq_bits(lrq_inflater *from, int count)
{
    int value;
    while (from->bit_count < count) {
        if (from->at == from->size)
            return -1;
        from->bits |= (uint32_t)from->data[from->at++] << from->bit_count;
        from->bit_count += 8;
    }
    value = (int)(from->bits & ((1u << count) - 1));
    from->bits >>= count;
    from->bit_count -= count;
    return value;
}

static int lrq_inflated(lrq_inflater *to, uint8_t byte)
{
    to->window[to->place++] = byte;
    if (to->place == LRQ_WINDOW) {
        to->place = 0;
        to->full = 1;
    }
    to->adler_a = (to->adler_a + byte) % 65521;
    to->adler_b = (to->adler_b + to->adler_a) % 65521;
    return lrq_alpha_put(to->sink, byte);
}

/* Codes of these lengths. Returns how many are missing to make the code complete, negative if there are too many. */
static int lrq_huffman_make(lrq_huffman *code, const uint8_t *lengths, int count)
{
    uint16_t starts[16];
    int i, left = 1;
    memset(code->counts, 0, sizeof code->counts);
    for (i = 0; i < count; i++)
        code->counts[lengths[i]]++;
    for (i = 1; i < 16; i++) {
        left = 2 * left - code->counts[i];
        if (left < 0)
            return left;
    }
    starts[1] = 0;
    for (i = 1; i < 15; i++)
        starts[i + 1] = (uint16_t)(starts[i] + code->counts[i]);
    for (i = 0; i < count; i++)
        if (lengths[i] != 0)
            code->symbols[starts[lengths[i]]++] = (uint16_t)i;
    return left;
}

static int lrq_huffman_read(lrq_inflater *from, const lrq_huffman *code)
{
    int length, bit, value = 0, first = 0, index = 0;
    for (length = 1; length < 16; length++) {
        bit = lrq_bits(from, 1);
        if (bit < 0)
            return -1;
        value |= bit;
        if (value - first < code->counts[length])
            return code->symbols[index + value - first];
        index += code->counts[length];
        first = (first + code->counts[length]) << 1;
        value <<= 1;
    }
    return -1;
}

static int lrq_inflate_stored(lrq_inflater *from)
{
    uint32_t length, i;
    from->bits = 0;
    from->bit_count = 0; /* the rest of this byte */
    if (from->size - from->at < 4)
        return -1;
    length = from->data[from->at] | (uint32_t)from->data[from->at + 1] << 8;
    if ((from->data[from->at + 2] | (uint32_t)from->data[from->at + 3] << 8) != (length ^ 0xFFFF))
        return -1;
    from->at += 4;
    if (from->size - from->at < length)
        return -1;
    for (i = 0; i < length; i++)
        if (!lrq_inflated(from, from->data[from->at++]))
            return -1;
    return 0;
}

static int lrq_inflate_codes(lrq_inflater *from, const lrq_huffman *lengths, const lrq_huffman *distances)
{
    static const uint16_t length_base[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                             31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t length_bits[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                            2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    int symbol, extra, length, distance;
    for (;;) {
        symbol = lrq_huffman_read(from, lengths);
        if (symbol < 0 || symbol > 285)
            return -1;
        if (symbol == 256)
            return 0;
        if (symbol < 256) {
            if (!lrq_inflated(from, (uint8_t)symbol))
                return -1;
            continue;
        }
        extra = lrq_bits(from, length_bits[symbol - 257]);
        if (extra < 0)
            return -1;
        length = length_base[symbol - 257] + extra;
        symbol = lrq_huffman_read(from, distances);
        if (symbol < 0 || symbol > 29)
            return -1;
        extra = symbol < 2 ? 0 : lrq_bits(from, symbol / 2 - 1);
        if (extra < 0)
            return -1;
        distance = symbol < 2 ? symbol + 1 : ((2 + symbol % 2) << (symbol / 2 - 1)) + 1 + extra;
        if (!from->full && (uint32_t)distance > from->place)
            return -1;
        while (length-- > 0)
            if (!lrq_inflated(from, from->window[(from->place - (uint32_t)distance) % LRQ_WINDOW]))
                return -1;
    }
}

static int lrq_inflate_block(lrq_inflater *from, int type)
{
    static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[320];
    lrq_huffman code, distances;
    int literals, others, count, i, symbol, times, left;
    if (type == 1) {
        for (i = 0; i < 288; i++)
            lengths[i] = (uint8_t)(i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8);
        lrq_huffman_make(&code, lengths, 288);
        memset(lengths, 5, 30);
        lrq_huffman_make(&distances, lengths, 30);
        return lrq_inflate_codes(from, &code, &distances);
    }
    literals = lrq_bits(from, 5);
    others = lrq_bits(from, 5);
    count = lrq_bits(from, 4);
    if (literals < 0 || others < 0 || count < 0 || literals > 29 || others > 29)
        return -1;
    literals += 257;
    others += 1;
    memset(lengths, 0, 19);
    for (i = 0; i < count + 4; i++) {
        int length = lrq_bits(from, 3);
        if (length < 0)
            return -1;
        lengths[order[i]] = (uint8_t)length;
    }
    if (lrq_huffman_make(&code, lengths, 19) != 0)
        return -1;
    for (i = 0; i < literals + others;) {
        uint8_t value = 0;
        symbol = lrq_huffman_read(from, &code);
        if (symbol < 0)
            return -1;
        if (symbol < 16) {
            lengths[i++] = (uint8_t)symbol;
            continue;
        }
        if (symbol == 16) {
            if (i == 0)
                return -1;
            value = lengths[i - 1];
        }
        times = lrq_bits(from, symbol == 16 ? 2 : symbol == 17 ? 3 : 7);
        if (times < 0)
            return -1;
        times += symbol == 18 ? 11 : 3;
        if (times > literals + others - i)
            return -1;
        while (times-- > 0)
            lengths[i++] = value;
    }
    if (lengths[256] == 0)
        return -1;
    /* An incomplete code is valid if it has one symbol alone, of one bit. */
    left = lrq_huffman_make(&code, lengths, literals);
    if (left < 0 || (left > 0 && literals != code.counts[0] + code.counts[1]))
        return -1;
    left = lrq_huffman_make(&distances, lengths + literals, others);
    if (left < 0 || (left > 0 && others != distances.counts[0] + distances.counts[1]))
        return -1;
    return lrq_inflate_codes(from, &code, &distances);
}

static lrq_result lrq_decode_alpha(lrq_pool *pool, uint8_t *pixels, const lrq_header *header, const lrq_chunk *chunk,
                                   int shrink)
{
    lrq_alpha alpha;
    lrq_inflater from;
    int last, type;
    const uint8_t *p = chunk->payload;
    memset(&from, 0, sizeof from);
    memset(&alpha, 0, sizeof alpha);
    alpha.pixels = pixels;
    alpha.width = header->width;
    alpha.height = header->height;
    alpha.channels = lrq_channels(header);
    alpha.shrink = shrink;
    alpha.row = (uint8_t *)lrq_take(pool, header->width, 1);
    alpha.sums = (uint32_t *)lrq_take(pool, lrq_columns(header, shrink), sizeof(uint32_t));
    from.window = (uint8_t *)lrq_take(pool, LRQ_WINDOW, 1);
    if (alpha.row == NULL || alpha.sums == NULL || from.window == NULL)
        return LRQ_MEMORY;
    if (chunk->present < 3 || p[0] > 2)
        return LRQ_NOT_VALID;
    alpha.filter = p[0];
    /* Deflate, a window of at most 32,768 bytes, no preset dictionary. */
    if ((p[1] & 15) != 8 || p[1] >> 4 > 7 || (p[1] * 256 + p[2]) % 31 != 0 || (p[2] & 0x20) != 0)
        return LRQ_NOT_VALID;
    from.data = p;
    from.at = 3;
    from.size = chunk->present;
    from.adler_a = 1;
    from.sink = &alpha;
    do {
        last = lrq_bits(&from, 1);
        type = lrq_bits(&from, 2);
        if (last < 0 || type < 0 || type == 3
            || (type == 0 ? lrq_inflate_stored(&from) : lrq_inflate_block(&from, type)) != 0)
            return LRQ_NOT_VALID;
    } while (!last);
    if (alpha.y != alpha.height || from.size - from.at != 4)
        return LRQ_NOT_VALID;
    p = from.data + from.at;
    if (((uint32_t)p[0] << 8 | p[1]) != from.adler_b || ((uint32_t)p[2] << 8 | p[3]) != from.adler_a)
        return LRQ_NOT_VALID;
    return LRQ_OK;
}

/* ---- Entropy coding */

/* high: what `point` is if the bytes that an incomplete file lacks are FF; `point` has them 00. A symbol is known if it
   is the same for both. */
typedef struct {
    const uint8_t *data;
    size_t size;
    uint64_t at, filled; /* filled: where unknown bytes end */
    uint64_t lower, range, point, high;
    int partial, unknown, bad;
} lrq_range;

static void lrq_next_word(lrq_range *from)
{
    uint64_t word = 0, high = 0;
    int i;
    for (i = 0; i < 4; i++, from->at++) {
        uint8_t byte = from->at < from->size ? from->data[from->at] : 0;
        word = word << 8 | byte;
        high = high << 8 | (from->at >= from->size && from->at < from->filled ? 255 : byte);
    }
    from->point = from->point << 32 | word;
    from->high = from->high << 32 | high;
}

static void lrq_range_start(lrq_range *from, const lrq_chunk *chunk)
{
    uint64_t absent = chunk->length - chunk->present;
    memset(from, 0, sizeof *from);
    from->data = chunk->payload;
    from->size = chunk->present;
    from->filled = from->size + (absent < 16 ? absent : 16);
    from->partial = absent > 0;
    from->range = UINT64_MAX;
    lrq_next_word(from);
    lrq_next_word(from);
}

/* Where `point` is in the range, in units of its 2^24th part. A symbol whose frequencies begin at `start` has been
   found if start * unit <= offset: so no division is needed. */
static uint64_t lrq_offset(lrq_range *from)
{
    const uint64_t unit = from->range >> 24, offset = from->point - from->lower;
    if (offset < unit << 24)
        return offset;
    from->bad = 1;
    return (unit << 24) - 1;
}

/* Go on after a symbol whose frequencies are from `start` up to, but without, `end`. */
static void lrq_pass(lrq_range *from, uint64_t start, uint64_t end)
{
    const uint64_t unit = from->range >> 24;
    if (from->partial) {
        const uint64_t offset = from->high - from->lower;
        from->unknown |= from->bad || offset < start * unit || offset >= end * unit;
    }
    from->lower += unit * start;
    from->range = unit * (end - start);
    if (from->range < (uint64_t)1 << 32) {
        from->lower <<= 32;
        from->range <<= 32;
        lrq_next_word(from);
    }
}

/* The last of n symbols that does not begin behind the offset. sums: of the frequencies before each. */
static uint32_t lrq_find(const uint32_t *sums, uint32_t n, uint64_t unit, uint64_t offset)
{
    uint32_t symbol = 0, half;
    for (; n > 1; n -= half) {
        half = n / 2;
        symbol += sums[symbol + half] * unit <= offset ? half : 0;
    }
    return symbol;
}

static uint32_t lrq_symbol(lrq_range *from, const uint32_t *sums, uint32_t n)
{
    const uint32_t symbol = lrq_find(sums, n, from->range >> 24, lrq_offset(from));
    lrq_pass(from, sums[symbol], symbol + 1 < n ? sums[symbol + 1] : LRQ_TOTAL);
    return symbol;
}

/* A shape of iteration i, in a table of a rate band and a context class: first its cluster, then the member. */
static uint32_t lrq_shape(lrq_range *from, const lrq_model *model, const lrq_scale *scale, int i, size_t band,
                          size_t class_)
{
    const size_t at = band * scale->contexts[i] + class_;
    const uint32_t clusters = scale->clusters[i], members = scale->shapes[i] / clusters;
    const uint32_t *sums = scale->sums[i] + at * clusters;
    const lrq_table *table = scale->tables[i] + at;
    const uint64_t unit = from->range >> 24, offset = lrq_offset(from);
    const uint32_t cluster = lrq_find(sums, clusters, unit, offset), first = cluster * members;
    const uint32_t *weights = model->weights + scale->cluster_costs[i][at * clusters + cluster];
    const uint8_t *costs = scale->member_costs[i] + band * scale->shapes[i] + first;
    uint64_t start = sums[cluster], end;
    uint32_t member = 0;
    for (;; member++, start = end) {
        end = start + lrq_frequency(table, weights[costs[member]])
              + (first + member == table->largest ? table->missing : 0);
        if (end * unit > offset || member + 1 == members)
            break;
    }
    lrq_pass(from, start, end);
    return first + member;
}

/* The indices of a scale in a strip. Patches have places in a grid with a border of one patch, whose rows are
   `stride` apart. indices: of a patch one after the other, each less 1; known: how many iterations of them are
   known. */
typedef struct {
    uint8_t *depths;
    uint16_t *indices;
    int known;
} lrq_patches;

/* What context classes see of a scale in the strip that is being decoded: of each place the total, the orientation of
   its first index less 4, and its frequency level. */
typedef struct {
    uint32_t rows, columns, stride;
    uint16_t *totals;
    int8_t *orientations;
    uint8_t *frequencies;
} lrq_surroundings;

/* Memory for a group of patches and its parents. */
typedef struct {
    uint32_t *group, *order, *symbols;
    uint16_t *cells;
    uint8_t *classes;
    uint8_t *parent_totals, *parent_totals_beside, *parent_orientations, *parent_frequencies;
} lrq_scratch;

/* Sort the n patches of a group by class, keeping their order within each: `order` then holds their numbers in the
   group. */
static void lrq_sort(lrq_scratch *scratch, uint32_t n, uint32_t *starts)
{
    uint32_t counts[256] = {0}, m, c;
    for (m = 0; m < n; m++)
        counts[scratch->classes[m]]++;
    for (starts[0] = 0, c = 0; c < 256; c++)
        starts[c + 1] = starts[c] + counts[c];
    memcpy(counts, starts, sizeof counts);
    for (m = 0; m < n; m++)
        scratch->order[counts[scratch->classes[m]]++] = m;
}

#define LRQ_CAPPED(x) ((x) < 255 ? (x) : 255)

/* Put the level of a feature of a group of n patches into their cells, 3 bits from `shift` on. The feature of the patch
   at `place` is `value`. */
#define LRQ_FEATURE(value)                                                                                             \
    for (m = 0; m < n; m++) {                                                                                          \
        const uint32_t place = scratch->group[m];                                                                      \
        const int feature = (value);                                                                                   \
        scratch->cells[m] = (uint16_t)(scratch->cells[m] | levels[LRQ_CAPPED(feature)] << shift);                      \
    }                                                                                                                  \
    break

#define LRQ_BESIDE(grid) (grid[place - stride] + grid[place + stride] + grid[place - 1] + grid[place + 1])

/* The row of the last index of a patch in the arrays of the scale. */
#define LRQ_LAST(i)                                                                                                    \
    (scale->starts[(i)-1] + (last[place * (uint32_t)scale->iterations + (uint32_t)(i)-1] >> scale->symmetry_bits))

static int lrq_orientation(const lrq_scale *scale, uint32_t row, uint32_t symmetry)
{
    return symmetry >= 8 ? 8 - scale->orientation[row] : scale->orientation[row];
}

/* The context classes of a group of n indices, of iteration i. */
static void lrq_index_classes(lrq_scratch *scratch, const lrq_scale *scale, const lrq_patches *patches,
                              const lrq_surroundings *near, int row, int i, uint32_t n)
{
    const uint32_t stride = near->stride, g = (uint32_t)scale->symmetries;
    const uint16_t *last = patches->indices;
    uint32_t m;
    int f;
    memset(scratch->cells, 0, n * sizeof *scratch->cells);
    for (f = 0; f < 4; f++) {
        const uint8_t *levels = scale->levels + 256 * (4 * row + f);
        const int shift = 3 * f;
        switch (scale->features[4 * row + f]) {
        case 0: LRQ_FEATURE(patches->depths[place] - i);
        case 1: LRQ_FEATURE(LRQ_BESIDE(patches->depths));
        case 2: LRQ_FEATURE(scratch->parent_totals[place]);
        case 3: LRQ_FEATURE(scratch->parent_totals_beside[place]);
        case 4: LRQ_FEATURE(i == 0 ? 0 : scale->energy[LRQ_LAST(i)]);
        case 5:
            LRQ_FEATURE(i == 0
                            ? 4
                            : lrq_orientation(scale, LRQ_LAST(i),
                                              last[place * (uint32_t)scale->iterations + (uint32_t)i - 1] & (g - 1)));
        case 6: LRQ_FEATURE(i == 0 ? 0 : scale->frequency[LRQ_LAST(i)]);
        case 7: LRQ_FEATURE(16 + LRQ_BESIDE(near->orientations));
        case 8: LRQ_FEATURE(LRQ_BESIDE(near->frequencies));
        case 9: LRQ_FEATURE(scratch->parent_orientations[place]);
        case 10: LRQ_FEATURE(scratch->parent_frequencies[place]);
        case 11: LRQ_FEATURE((int)(place / stride) - 1);
        case 12: LRQ_FEATURE((int)(place % stride) - 1);
        }
    }
    for (m = 0; m < n; m++)
        scratch->classes[m] = scale->classes[4096 * row + scratch->cells[m]];
}

/* Decode the depths of a phase. */
static void lrq_decode_depths(lrq_range *from, lrq_scratch *scratch, const lrq_scale *scale, lrq_patches *patches,
                              const lrq_surroundings *near, int band, int phase)
{
    const uint32_t stride = near->stride, n_depths = (uint32_t)scale->iterations + 1;
    uint32_t sums[LRQ_MAX_ITERATIONS + 2], starts[257], n = 0, m, c, y, x;
    const uint8_t *levels = scale->depth_levels + 3 * 256 * phase;
    for (y = 1; y <= near->rows; y++)
        for (x = 1 + (y + 1 + (uint32_t)phase) % 2; x <= near->columns; x += 2)
            scratch->group[n++] = y * stride + x;
    for (m = 0; m < n; m++) {
        const uint32_t place = scratch->group[m];
        const int beside = phase == 0 ? 0 : LRQ_BESIDE(patches->depths);
        const int cell = levels[LRQ_CAPPED(beside)] | levels[256 + scratch->parent_totals[place]] << 3
                         | levels[512 + scratch->parent_totals_beside[place]] << 6;
        scratch->classes[m] = scale->depth_classes[512 * phase + cell];
    }
    lrq_sort(scratch, n, starts);
    for (c = 0; c < scale->depth_contexts; c++) {
        if (starts[c] == starts[c + 1])
            continue;
        lrq_few_sums(sums, scale->depths + (((size_t)band * 2 + (size_t)phase) * scale->depth_contexts + c) * n_depths,
                     n_depths);
        for (m = starts[c]; m < starts[c + 1]; m++)
            patches->depths[scratch->group[scratch->order[m]]] = (uint8_t)lrq_symbol(from, sums, n_depths);
    }
}

/* Decode the n indices of a group, of iteration i. */
static void lrq_decode_indices(lrq_range *from, lrq_scratch *scratch, const lrq_model *model, const lrq_scale *scale,
                               lrq_patches *patches, lrq_surroundings *near, int band, int row, int i, uint32_t n)
{
    const uint32_t g = (uint32_t)scale->symmetries;
    uint32_t starts[257], m, c;
    lrq_index_classes(scratch, scale, patches, near, row, i, n);
    lrq_sort(scratch, n, starts);
    for (c = 0; c < scale->contexts[i]; c++)
        for (m = starts[c]; m < starts[c + 1]; m++)
            scratch->symbols[scratch->order[m]] = lrq_shape(from, model, scale, i, (size_t)band, c);
    for (m = 0; m < n; m++) {
        const uint32_t place = scratch->group[m], shape_row = scale->starts[i] + scratch->symbols[m];
        const uint32_t symmetry = g > 1 ? lrq_symbol(from, scale->symmetry_sums + (size_t)shape_row * g, g) : 0;
        patches->indices[place * (uint32_t)scale->iterations + (uint32_t)i] =
            (uint16_t)(scratch->symbols[m] << scale->symmetry_bits | symmetry);
        near->totals[place] = (uint16_t)(near->totals[place] + scale->energy[shape_row]);
        if (i == 0) {
            near->orientations[place] = (int8_t)(lrq_orientation(scale, shape_row, symmetry) - 4);
            near->frequencies[place] = scale->frequency[shape_row];
        }
    }
}

/* What the parents tell: of the coarsest scale the row and the column. */
static void lrq_see_parents(lrq_scratch *scratch, const lrq_surroundings *near, const lrq_surroundings *coarser,
                            uint32_t times)
{
    uint32_t y, x;
    for (y = 0; y < near->rows; y++)
        for (x = 0; x < near->columns; x++) {
            const uint32_t to = (y + 1) * near->stride + x + 1;
            if (coarser == NULL) {
                scratch->parent_totals[to] = (uint8_t)LRQ_CAPPED(y);
                scratch->parent_totals_beside[to] = (uint8_t)LRQ_CAPPED(x);
                scratch->parent_orientations[to] = 4;
                scratch->parent_frequencies[to] = 0;
            } else {
                const uint32_t stride = coarser->stride, place = (y / times + 1) * stride + x / times + 1;
                const uint32_t beside = (uint32_t)LRQ_BESIDE(coarser->totals);
                scratch->parent_totals[to] = (uint8_t)LRQ_CAPPED(coarser->totals[place]);
                scratch->parent_totals_beside[to] = (uint8_t)LRQ_CAPPED(beside);
                scratch->parent_orientations[to] = (uint8_t)(4 + coarser->orientations[place]);
                scratch->parent_frequencies[to] = coarser->frequencies[place];
            }
        }
}

/* Decode a scale of a strip. An incomplete file may leave its end unknown. */
static lrq_result lrq_decode_scale(lrq_range *from, lrq_scratch *scratch, const lrq_model *model,
                                   const lrq_scale *scale, lrq_patches *patches, lrq_surroundings *near,
                                   const lrq_header *header)
{
    const size_t places = (size_t)(near->rows + 2) * near->stride;
    uint32_t n = 0, kept, m, y, x;
    int phase, i;
    memset(patches->depths, 0, places);
    memset(near->totals, 0, places * sizeof *near->totals);
    memset(near->orientations, 0, places);
    memset(near->frequencies, 0, places);
    patches->known = 0;
    if (from->unknown)
        return LRQ_OK;
    for (phase = 0; phase < 2; phase++)
        lrq_decode_depths(from, scratch, scale, patches, near, header->band, phase);
    if (lrq_most(patches->depths, places) > header->iterations)
        from->bad = 1;
    if (from->bad && !from->partial)
        return LRQ_NOT_VALID;
    from->unknown |= from->bad; /* nothing that a cut payload holds makes the file invalid */
    if (from->unknown) {
        memset(patches->depths, 0, places);
        return LRQ_OK;
    }
    for (phase = 0; phase < 2; phase++) {
        n = 0;
        for (y = 1; y <= near->rows; y++)
            for (x = 1 + (y + 1 + (uint32_t)phase) % 2; x <= near->columns; x += 2)
                if (patches->depths[y * near->stride + x] > 0)
                    scratch->group[n++] = y * near->stride + x;
        lrq_decode_indices(from, scratch, model, scale, patches, near, header->band, phase, 0, n);
    }
    n = 0;
    for (y = 1; y <= near->rows; y++)
        for (x = 1; x <= near->columns; x++)
            scratch->group[n++] = y * near->stride + x;
    for (i = 0; !from->unknown && !from->bad; i++) {
        if (i > 0)
            lrq_decode_indices(from, scratch, model, scale, patches, near, header->band, i + 1, i, n);
        if (from->unknown || from->bad)
            break;
        patches->known = i + 1;
        if (i + 1 == scale->iterations)
            break;
        for (kept = 0, m = 0; m < n; m++)
            if (patches->depths[scratch->group[m]] > i + 1)
                scratch->group[kept++] = scratch->group[m];
        n = kept;
    }
    return from->bad && !from->unknown ? LRQ_NOT_VALID : LRQ_OK;
}

/* ---- Rows of numbers, four or eight at a time where the processor can: a plain loop stands beside each. Buffers have
   LRQ_SLACK numbers more than they need, which these functions may read and write. */

#define LRQ_SLACK 16

#if defined(__SSE2__) && !defined(LRQ_PLAIN)
#include <emmintrin.h>
#define LRQ_VECTORS
typedef __m128i lrq_vector;
#define LRQ_LOAD(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define LRQ_STORE(p, v) _mm_storeu_si128((__m128i *)(void *)(p), v)
#define LRQ_ALL32(x) _mm_set1_epi32(x)
#define LRQ_ALL16(x) _mm_set1_epi16(x)
#define LRQ_ADD32(a, b) _mm_add_epi32(a, b)
#define LRQ_ADD16(a, b) _mm_add_epi16(a, b)
#define LRQ_XOR(a, b) _mm_xor_si128(a, b)
#define LRQ_AND(a, b) _mm_and_si128(a, b)
#define LRQ_SHIFT32(a, n) _mm_srai_epi32(a, n)
#define LRQ_SHIFT16(a, n) _mm_srai_epi16(a, n)
#define LRQ_MIN16(a, b) _mm_min_epi16(a, b)
#define LRQ_MAX16(a, b) _mm_max_epi16(a, b)
#define LRQ_DOT(a, b) _mm_madd_epi16(a, b) /* sums of two neighbouring products */
#define LRQ_PACK(a, b) _mm_packs_epi32(a, b)
#define LRQ_BYTES(a, b) _mm_packus_epi16(a, b)
#define LRQ_LOW(a, b) _mm_unpacklo_epi16(a, b) /* a0 b0 a1 b1 ... */
#define LRQ_HIGH(a, b) _mm_unpackhi_epi16(a, b)
#define LRQ_LOW8(a, b) _mm_unpacklo_epi8(a, b)
#define LRQ_WIDE(p)                                                                                                    \
    _mm_srai_epi16(_mm_unpacklo_epi8(_mm_setzero_si128(), _mm_loadl_epi64((const __m128i *)(const void *)(p))), 8)
#define LRQ_REVERSED(a) _mm_shuffle_epi32(_mm_shufflehi_epi16(_mm_shufflelo_epi16(a, 0x1B), 0x1B), 0x4E)
#define LRQ_REVERSED_HALVES(a) _mm_shufflehi_epi16(_mm_shufflelo_epi16(a, 0x1B), 0x1B)
#elif defined(__wasm_simd128__) && !defined(LRQ_PLAIN)
#include <wasm_simd128.h>
#define LRQ_VECTORS
typedef v128_t lrq_vector;
#define LRQ_LOAD(p) wasm_v128_load(p)
#define LRQ_STORE(p, v) wasm_v128_store(p, v)
#define LRQ_ALL32(x) wasm_i32x4_splat(x)
#define LRQ_ALL16(x) wasm_i16x8_splat(x)
#define LRQ_ADD32(a, b) wasm_i32x4_add(a, b)
#define LRQ_ADD16(a, b) wasm_i16x8_add(a, b)
#define LRQ_XOR(a, b) wasm_v128_xor(a, b)
#define LRQ_AND(a, b) wasm_v128_and(a, b)
#define LRQ_SHIFT32(a, n) wasm_i32x4_shr(a, n)
#define LRQ_SHIFT16(a, n) wasm_i16x8_shr(a, n)
#define LRQ_MIN16(a, b) wasm_i16x8_min(a, b)
#define LRQ_MAX16(a, b) wasm_i16x8_max(a, b)
#define LRQ_DOT(a, b) wasm_i32x4_dot_i16x8(a, b)
#define LRQ_PACK(a, b) wasm_i16x8_narrow_i32x4(a, b)
#define LRQ_BYTES(a, b) wasm_u8x16_narrow_i16x8(a, b)
#define LRQ_LOW(a, b) wasm_i16x8_shuffle(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define LRQ_HIGH(a, b) wasm_i16x8_shuffle(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define LRQ_LOW8(a, b) wasm_i8x16_shuffle(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define LRQ_WIDE(p) wasm_i16x8_load8x8(p)
#define LRQ_REVERSED(a) wasm_i16x8_shuffle(a, a, 7, 6, 5, 4, 3, 2, 1, 0)
#define LRQ_REVERSED_HALVES(a) wasm_i16x8_shuffle(a, a, 3, 2, 1, 0, 7, 6, 5, 4)
#endif

#if defined(LRQ_VECTORS) && defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define LRQ_AVX2
#endif

#ifdef LRQ_VECTORS
#define LRQ_CHOOSE(mask, a, b) LRQ_XOR(b, LRQ_AND(LRQ_XOR(a, b), mask))

/* The same pair of numbers in all places. */
static lrq_vector lrq_pairs(const int16_t *pair)
{
    int32_t both;
    memcpy(&both, pair, sizeof both);
    return LRQ_ALL32(both);
}
#endif

#ifdef LRQ_AVX2
/* lrq_convolve for four outputs, eight sums at a time. */
__attribute__((target("avx2"))) static void lrq_convolve_avx2(int32_t *out, size_t stride, const int16_t *const *taps,
                                                              int n, const int16_t *weights, size_t all,
                                                              const int32_t *start, uint32_t width)
{
    uint32_t x;
    int t, i;
    for (x = 0; x < width; x += 16) {
        const int16_t *pair = weights;
        __m256i sums[8];
        for (i = 0; i < 4; i++)
            sums[2 * i] = sums[2 * i + 1] = _mm256_set1_epi32(start[i]);
        for (t = 0; t < n; t++, pair += 2 * all) {
            const int16_t *from = taps[t] + 2 * (size_t)x;
            const __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)from);
            const __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(from + 16));
            for (i = 0; i < 4; i++) {
                int32_t both;
                __m256i w;
                memcpy(&both, pair + 2 * i, sizeof both);
                w = _mm256_set1_epi32(both);
                sums[2 * i] = _mm256_add_epi32(sums[2 * i], _mm256_madd_epi16(a, w));
                sums[2 * i + 1] = _mm256_add_epi32(sums[2 * i + 1], _mm256_madd_epi16(b, w));
            }
        }
        for (i = 0; i < 4; i++) {
            _mm256_storeu_si256((__m256i *)(void *)(out + (size_t)i * stride + x), sums[2 * i]);
            _mm256_storeu_si256((__m256i *)(void *)(out + (size_t)i * stride + x + 8), sums[2 * i + 1]);
        }
    }
}
#endif

/* out[o][x] = start[o] + the sum over t < n and both of a pair of weights[t][o] * taps[t][x]. all: the outputs that
   there are weights for. */
static void lrq_convolve(int32_t *out, size_t stride, const int16_t *const *taps, int n, const int16_t *weights,
                         size_t all, const int32_t *start, int outputs, uint32_t width)
{
    int o = 0, t;
    uint32_t x;
#ifdef LRQ_AVX2
    if (__builtin_cpu_supports("avx2"))
        for (; o + 4 <= outputs; o += 4)
            lrq_convolve_avx2(out + (size_t)o * stride, stride, taps, n, weights + 2 * o, all, start + o, width);
#endif
#ifdef LRQ_VECTORS
    for (; o + 4 <= outputs; o += 4)
        for (x = 0; x < width; x += 8) {
            const int16_t *pair = weights + 2 * o;
            lrq_vector sums[8];
            int i;
            for (i = 0; i < 4; i++)
                sums[2 * i] = sums[2 * i + 1] = LRQ_ALL32(start[o + i]);
            for (t = 0; t < n; t++, pair += 2 * all) {
                const lrq_vector a = LRQ_LOAD(taps[t] + 2 * (size_t)x), b = LRQ_LOAD(taps[t] + 2 * (size_t)x + 8);
                for (i = 0; i < 4; i++) {
                    const lrq_vector w = lrq_pairs(pair + 2 * i);
                    sums[2 * i] = LRQ_ADD32(sums[2 * i], LRQ_DOT(a, w));
                    sums[2 * i + 1] = LRQ_ADD32(sums[2 * i + 1], LRQ_DOT(b, w));
                }
            }
            for (i = 0; i < 4; i++) {
                LRQ_STORE(out + (size_t)(o + i) * stride + x, sums[2 * i]);
                LRQ_STORE(out + (size_t)(o + i) * stride + x + 4, sums[2 * i + 1]);
            }
        }
#endif
    for (; o < outputs; o++) {
        int32_t *sums = out + (size_t)o * stride;
        for (x = 0; x < width; x++)
            sums[x] = start[o];
        for (t = 0; t < n; t++) {
            const int32_t w0 = weights[2 * ((size_t)t * all + (size_t)o)],
                          w1 = weights[2 * ((size_t)t * all + (size_t)o) + 1];
            for (x = 0; x < width; x++)
                sums[x] += w0 * taps[t][2 * x] + w1 * taps[t][2 * x + 1];
        }
    }
}

/* to[x] = the pair of a[x] and b[x]; of a[x] and 0 if b is NULL. */
static void lrq_interleave(int16_t *to, const int16_t *a, const int16_t *b, uint32_t n)
{
    uint32_t x = 0;
#ifdef LRQ_VECTORS
    for (; x < n; x += 8) {
        const lrq_vector low = LRQ_LOAD(a + x), high = b != NULL ? LRQ_LOAD(b + x) : LRQ_ALL32(0);
        LRQ_STORE(to + 2 * x, LRQ_LOW(low, high));
        LRQ_STORE(to + 2 * x + 8, LRQ_HIGH(low, high));
    }
#endif
    for (; x < n; x++) {
        to[2 * x] = a[x];
        to[2 * x + 1] = b != NULL ? b[x] : (int16_t)0;
    }
}

/* to[x] = the pair of a[x] and b[x], 9 bits less and clipped; of a[x] and 0 if b is NULL. */
static void lrq_interleave_clipped(int16_t *to, const int32_t *a, const int32_t *b, int low, uint32_t n)
{
    uint32_t x = 0;
#ifdef LRQ_VECTORS
    const lrq_vector least = LRQ_ALL16((int16_t)low), most = LRQ_ALL16(LRQ_PLANE_LIMIT);
    for (; x < n; x += 8) {
        lrq_vector even = LRQ_PACK(LRQ_SHIFT32(LRQ_LOAD(a + x), 9), LRQ_SHIFT32(LRQ_LOAD(a + x + 4), 9)),
                   odd = LRQ_ALL32(0);
        even = LRQ_MAX16(LRQ_MIN16(even, most), least);
        if (b != NULL) {
            odd = LRQ_PACK(LRQ_SHIFT32(LRQ_LOAD(b + x), 9), LRQ_SHIFT32(LRQ_LOAD(b + x + 4), 9));
            odd = LRQ_MAX16(LRQ_MIN16(odd, most), least);
        }
        LRQ_STORE(to + 2 * x, LRQ_LOW(even, odd));
        LRQ_STORE(to + 2 * x + 8, LRQ_HIGH(even, odd));
    }
#endif
    for (; x < n; x++) {
        to[2 * x] = (int16_t)lrq_clip(a[x] >> 9, low, LRQ_PLANE_LIMIT);
        to[2 * x + 1] = (int16_t)(b != NULL ? lrq_clip(b[x] >> 9, low, LRQ_PLANE_LIMIT) : 0);
    }
}

/* Add n numbers and, at `stride`, the next n. */
static void lrq_add(int32_t *to, size_t stride, const int32_t *from, int n)
{
    int x = 0;
#ifdef LRQ_VECTORS
    for (; x + 4 <= n; x += 4) {
        LRQ_STORE(to + x, LRQ_ADD32(LRQ_LOAD(to + x), LRQ_LOAD(from + x)));
        LRQ_STORE(to + stride + x, LRQ_ADD32(LRQ_LOAD(to + stride + x), LRQ_LOAD(from + n + x)));
    }
#endif
    for (; x < n; x++) {
        to[x] += from[x];
        to[stride + (size_t)x] += from[n + x];
    }
}

/* Enlargement down: to[x] = (the sum of taps[k] * rows[k][x] + 64) >> 7. */
static void lrq_enlarge_down(int16_t *to, const int16_t *const *rows, const int16_t *taps, uint32_t n)
{
    uint32_t x = 0;
#ifdef LRQ_VECTORS
    const lrq_vector first = lrq_pairs(taps), second = lrq_pairs(taps + 2), half = LRQ_ALL32(64);
    for (; x < n; x += 8) {
        const lrq_vector a = LRQ_LOAD(rows[0] + x), b = LRQ_LOAD(rows[1] + x), c = LRQ_LOAD(rows[2] + x),
                         d = LRQ_LOAD(rows[3] + x);
        const lrq_vector low = LRQ_ADD32(LRQ_DOT(LRQ_LOW(a, b), first), LRQ_DOT(LRQ_LOW(c, d), second));
        const lrq_vector high = LRQ_ADD32(LRQ_DOT(LRQ_HIGH(a, b), first), LRQ_DOT(LRQ_HIGH(c, d), second));
        LRQ_STORE(to + x, LRQ_PACK(LRQ_SHIFT32(LRQ_ADD32(low, half), 7), LRQ_SHIFT32(LRQ_ADD32(high, half), 7)));
    }
#endif
    for (; x < n; x++)
        to[x] =
            (int16_t)((taps[0] * rows[0][x] + taps[1] * rows[1][x] + taps[2] * rows[2][x] + taps[3] * rows[3][x] + 64)
                      >> 7);
}

/* Enlargement across: sums[x] = 256 + change[x] + 4 * the sum over k < 4 of taps[k] * from[x + k]. */
static void lrq_enlarge_across(int32_t *sums, const int16_t *from, const int16_t *taps, const int32_t *change,
                               uint32_t n)
{
    uint32_t x = 0;
#ifdef LRQ_VECTORS
    const lrq_vector half = LRQ_ALL32(256);
    lrq_vector first = lrq_pairs(taps), second = lrq_pairs(taps + 2);
    first = LRQ_ADD16(first, first);
    first = LRQ_ADD16(first, first);
    second = LRQ_ADD16(second, second);
    second = LRQ_ADD16(second, second);
    for (; x < n; x += 8) {
        const lrq_vector a = LRQ_LOAD(from + x), b = LRQ_LOAD(from + x + 1), c = LRQ_LOAD(from + x + 2),
                         d = LRQ_LOAD(from + x + 3);
        lrq_vector low = LRQ_ADD32(LRQ_DOT(LRQ_LOW(a, b), first), LRQ_DOT(LRQ_LOW(c, d), second));
        lrq_vector high = LRQ_ADD32(LRQ_DOT(LRQ_HIGH(a, b), first), LRQ_DOT(LRQ_HIGH(c, d), second));
        if (change != NULL) {
            low = LRQ_ADD32(low, LRQ_LOAD(change + x));
            high = LRQ_ADD32(high, LRQ_LOAD(change + x + 4));
        }
        LRQ_STORE(sums + x, LRQ_ADD32(low, half));
        LRQ_STORE(sums + x + 4, LRQ_ADD32(high, half));
    }
#endif
    for (; x < n; x++)
        sums[x] = 256 + (change != NULL ? change[x] : 0)
                  + 4 * (taps[0] * from[x] + taps[1] * from[x + 1] + taps[2] * from[x + 2] + taps[3] * from[x + 3]);
}

/* A row of chroma between those of a plane at half resolution: of the row itself and the one beside it. */
static void lrq_interpolate(int16_t *to, int16_t *down, const int16_t *row, const int16_t *beside, uint32_t n)
{
    uint32_t x = 0;
#ifdef LRQ_VECTORS
    for (; x < n; x += 8) {
        const lrq_vector a = LRQ_LOAD(row + x);
        LRQ_STORE(down + 1 + x, LRQ_ADD16(LRQ_ADD16(LRQ_ADD16(a, a), a), LRQ_LOAD(beside + x)));
    }
#endif
    for (; x < n; x++)
        down[x + 1] = (int16_t)(3 * row[x] + beside[x]);
    down[0] = down[1];
    down[n + 1] = down[n];
    x = 0;
#ifdef LRQ_VECTORS
    for (; x < n; x += 8) {
        const lrq_vector a = LRQ_LOAD(down + 1 + x), all = LRQ_ADD16(LRQ_ADD16(LRQ_ADD16(a, a), a), LRQ_ALL16(8));
        const lrq_vector even = LRQ_SHIFT16(LRQ_ADD16(all, LRQ_LOAD(down + x)), 4);
        const lrq_vector odd = LRQ_SHIFT16(LRQ_ADD16(all, LRQ_LOAD(down + 2 + x)), 4);
        LRQ_STORE(to + 2 * x, LRQ_LOW(even, odd));
        LRQ_STORE(to + 2 * x + 8, LRQ_HIGH(even, odd));
    }
#endif
    for (; x < n; x++) {
        to[2 * x] = (int16_t)((3 * down[x + 1] + down[x] + 8) >> 4);
        to[2 * x + 1] = (int16_t)((3 * down[x + 1] + down[x + 2] + 8) >> 4);
    }
}

/* A row of pixels, `step` bytes apart, of values: of luma, or of luma and two of chroma. */
static void lrq_pixels(uint8_t *to, size_t step, const int16_t *luma, const int16_t *red_blue, const int16_t *green,
                       uint32_t n)
{
    const int32_t half = 257 * (1 << 12);
    uint32_t x = 0;
    if (red_blue == NULL) {
        for (; x < n; x++)
            to[x * step] = (uint8_t)lrq_clip((591 * luma[x] + half) >> 13, 0, 255);
        return;
    }
#ifdef LRQ_VECTORS
    {
        static const int16_t matrix[6] = {591, 724, 591, 0, 591, -724};
        const lrq_vector red = lrq_pairs(matrix), middle = lrq_pairs(matrix + 2), blue = lrq_pairs(matrix + 4);
        const lrq_vector sides = LRQ_ALL32(418), centre = LRQ_ALL32(-836 & 0xFFFF), halves = LRQ_ALL32(257 * (1 << 12));
        for (; x + 9 <= n; x += 8) { /* a pixel is four bytes here: one more than it has, unless it has alpha */
            const lrq_vector y = LRQ_LOAD(luma + x), a = LRQ_LOAD(red_blue + x), b = LRQ_LOAD(green + x),
                             zero = LRQ_ALL32(0);
            const lrq_vector ya0 = LRQ_LOW(y, a), ya1 = LRQ_HIGH(y, a), b0 = LRQ_LOW(b, zero), b1 = LRQ_HIGH(b, zero);
            const lrq_vector side0 = LRQ_ADD32(LRQ_DOT(b0, sides), halves),
                             side1 = LRQ_ADD32(LRQ_DOT(b1, sides), halves);
            const lrq_vector r = LRQ_PACK(LRQ_SHIFT32(LRQ_ADD32(LRQ_DOT(ya0, red), side0), 13),
                                          LRQ_SHIFT32(LRQ_ADD32(LRQ_DOT(ya1, red), side1), 13));
            const lrq_vector g =
                LRQ_PACK(LRQ_SHIFT32(LRQ_ADD32(LRQ_ADD32(LRQ_DOT(ya0, middle), LRQ_DOT(b0, centre)), halves), 13),
                         LRQ_SHIFT32(LRQ_ADD32(LRQ_ADD32(LRQ_DOT(ya1, middle), LRQ_DOT(b1, centre)), halves), 13));
            const lrq_vector l = LRQ_PACK(LRQ_SHIFT32(LRQ_ADD32(LRQ_DOT(ya0, blue), side0), 13),
                                          LRQ_SHIFT32(LRQ_ADD32(LRQ_DOT(ya1, blue), side1), 13));
            const lrq_vector rg = LRQ_LOW8(LRQ_BYTES(r, r), LRQ_BYTES(g, g)), l0 = LRQ_LOW8(LRQ_BYTES(l, l), zero);
            uint32_t pixels[8];
            int i;
            LRQ_STORE(pixels, LRQ_LOW(rg, l0));
            LRQ_STORE(pixels + 4, LRQ_HIGH(rg, l0));
            for (i = 0; i < 8; i++)
                memcpy(to + (x + (uint32_t)i) * step, pixels + i, 4);
        }
    }
#endif
    for (; x < n; x++) {
        const int32_t y = 591 * luma[x] + half, a = 724 * red_blue[x], b = 418 * green[x];
        uint8_t *pixel = to + x * step;
        pixel[0] = (uint8_t)lrq_clip((y + a + b) >> 13, 0, 255);
        pixel[1] = (uint8_t)lrq_clip((y - 2 * b) >> 13, 0, 255);
        pixel[2] = (uint8_t)lrq_clip((y - a + b) >> 13, 0, 255);
    }
}

/* ---- Convolutions, row by row. Rows of pairs of channels are interleaved, with one column of zeros at either side. */

typedef struct {
    const lrq_convolutions *weights;
    int inputs, outputs; /* that are used: of a grey image the first ones */
    uint32_t rows, columns, hidden_columns;
    size_t row_size;                           /* of a row of pairs */
    int16_t *given_rows, *hidden_rows, *zeros; /* three rows of all pairs each, that of row y at y % 3 */
    int32_t *sums, *start;
    size_t stride;        /* of the sums of an output */
    uint32_t given, done; /* rows of inputs, and of hidden ones */
} lrq_filter;

static int lrq_filter_start(lrq_filter *filter, lrq_pool *pool, const lrq_convolutions *weights, int inputs,
                            int outputs, uint32_t rows, uint32_t columns, uint32_t hidden_columns)
{
    const int most = weights->hidden > outputs ? weights->hidden : outputs;
    memset(filter, 0, sizeof *filter);
    filter->weights = weights;
    filter->inputs = inputs;
    filter->outputs = outputs;
    filter->rows = rows;
    filter->columns = columns;
    filter->hidden_columns = hidden_columns;
    filter->stride = (size_t)columns + LRQ_SLACK;
    filter->row_size = 2 * ((size_t)columns + 2 + LRQ_SLACK);
    filter->given_rows =
        (int16_t *)lrq_take(pool, (uint64_t)((weights->inputs + 1) / 2) * 3, filter->row_size * sizeof(int16_t));
    filter->hidden_rows =
        (int16_t *)lrq_take(pool, (uint64_t)((weights->hidden + 1) / 2) * 3, filter->row_size * sizeof(int16_t));
    filter->zeros = (int16_t *)lrq_take(pool, 1, filter->row_size * sizeof(int16_t));
    filter->sums = (int32_t *)lrq_take(pool, (uint64_t)most, filter->stride * sizeof(int32_t));
    filter->start = (int32_t *)lrq_take(pool, (uint64_t)most, sizeof(int32_t));
    return filter->given_rows != NULL && filter->hidden_rows != NULL && filter->zeros != NULL && filter->sums != NULL
           && filter->start != NULL;
}

/* The row of a pair of inputs. */
static int16_t *lrq_input(const lrq_filter *filter, uint32_t y, int pair)
{
    return filter->given_rows
           + ((size_t)(y % 3) * (size_t)((filter->weights->inputs + 1) / 2) + (size_t)pair) * filter->row_size;
}

/* Give the next row of a pair of inputs, or of one if the second is NULL. */
static void lrq_give(const lrq_filter *filter, int pair, const int16_t *first, const int16_t *second)
{
    int16_t *to = lrq_input(filter, filter->given, pair) + 2;
    lrq_interleave(to, first, second, filter->columns);
    memset(to + 2 * filter->columns, 0, 2 * sizeof *to);
}

/* One convolution of the rows around y. The rows hold so many pairs; there are weights for `all` outputs. */
static void lrq_filter_row(const lrq_filter *filter, const int16_t *rows, int pairs, const int16_t *weights, int all,
                           int outputs, uint32_t y, uint32_t columns)
{
    const int16_t *taps[9 * (LRQ_MAX_HIDDEN + 1) / 2];
    int j, i, k, n = 0;
    for (j = 0; j < 3; j++)
        for (i = 0; i < pairs; i++)
            for (k = 0; k < 3; k++)
                taps[n++] = 2 * k
                            + ((y == 0 && j == 0) || y + (uint32_t)j > filter->rows
                                   ? filter->zeros
                                   : rows
                                         + ((size_t)((y + (uint32_t)j + 2) % 3) * (size_t)pairs + (size_t)i)
                                               * filter->row_size);
    lrq_convolve(filter->sums, filter->stride, taps, n, weights, (size_t)all, filter->start, outputs, columns);
}

/* The next hidden row, from the inputs of the rows around it. */
static void lrq_hidden(lrq_filter *filter)
{
    const lrq_convolutions *weights = filter->weights;
    const int pairs = (weights->hidden + 1) / 2;
    const uint32_t columns = filter->hidden_columns;
    int o;
    for (o = 0; o < weights->hidden; o++)
        filter->start[o] = weights->first_bias[o] * (1 << LRQ_WEIGHT_BITS) + (1 << (LRQ_WEIGHT_BITS - 1));
    lrq_filter_row(filter, filter->given_rows, (weights->inputs + 1) / 2, weights->first, weights->hidden,
                   weights->hidden, filter->done, columns);
    for (o = 0; o < weights->hidden; o += 2) {
        const int32_t *sums = filter->sums + (size_t)o * filter->stride;
        int16_t *to =
            filter->hidden_rows + ((size_t)(filter->done % 3) * (size_t)pairs + (size_t)(o / 2)) * filter->row_size + 2;
        lrq_interleave_clipped(to, sums, o + 1 < weights->hidden ? sums + filter->stride : NULL, 0, columns);
        memset(to + 2 * columns, 0, 2 * sizeof *to);
    }
    filter->done++;
}

/* The sums of the second convolution in row y, plus `more`; the hidden rows around it must be done. */
static void lrq_filter_sums(lrq_filter *filter, uint32_t y, int32_t more, uint32_t columns)
{
    const lrq_convolutions *weights = filter->weights;
    int o;
    for (o = 0; o < filter->outputs; o++)
        filter->start[o] = weights->second_bias[o] * (1 << LRQ_WEIGHT_BITS) + more;
    lrq_filter_row(filter, filter->hidden_rows, (weights->hidden + 1) / 2, weights->second, weights->outputs,
                   filter->outputs, y, columns);
}

/* Have the processor fetch what is needed soon. */
#ifdef __GNUC__
#define LRQ_FETCH(p) __builtin_prefetch(p)
#else
#define LRQ_FETCH(p) (void)(p)
#endif
#define LRQ_AHEAD 4 /* patches */

/* ---- Drawing: rows of patches of each scale, each as soon as a finer scale or the pixels need it */

/* A scale while it is drawn. Planes are kept for some rows alone: row y of a channel at y % kept. */
typedef struct {
    const lrq_scale *scale;
    uint32_t grid_rows, grid_columns, strip_rows; /* strip_rows: of patches */
    uint32_t plane_rows, plane_columns, kept;
    size_t stride; /* of a row of a plane */
    int16_t *planes;
    uint32_t drawn; /* rows of pixels */
    int32_t *sums;  /* of a row of patches: [channel][row][even columns, then odd ones], each half_stride long */
    size_t half_stride;
    int16_t *down; /* a row of enlargement, with two columns more at either side */
    lrq_filter filter;
    lrq_surroundings near;
} lrq_level;

typedef struct {
    const lrq_model *model;
    const lrq_header *header;
    const lrq_file *file;
    lrq_pool *pool;
    int channels, count; /* of planes, and of scales that are drawn */
    lrq_level levels[LRQ_MAX_SCALES];
    uint32_t strip_height, strips, slots; /* strips that are kept: strip n in slot n % slots */
    lrq_patches *patches;                 /* [slots][count] */
    lrq_bytes chunks;
    uint32_t decoded; /* strips */
    int unknown;      /* whether some of them lack something */
    lrq_scratch scratch;
    int16_t *lefts, *rights; /* of the codewords of a patch, in pairs of ranks: [pair][row][2], [pair][column][2] */
    int32_t *product;        /* [row][column] */
    uint32_t product_stride;
} lrq_drawing;

static int16_t *lrq_plane_row(const lrq_level *level, int channel, uint32_t y)
{
    return level->planes + ((size_t)channel * level->kept + y % level->kept) * level->stride;
}

/* Decode the next strip into its slot. */
static lrq_result lrq_decode_strip(lrq_drawing *drawing)
{
    const uint32_t top = drawing->decoded * drawing->strip_height;
    const uint32_t height =
        drawing->header->height - top < drawing->strip_height ? drawing->header->height - top : drawing->strip_height;
    lrq_patches *patches = drawing->patches + (size_t)(drawing->decoded % drawing->slots) * (size_t)drawing->count;
    lrq_chunk chunk;
    lrq_range from;
    lrq_result result;
    int i;
    memset(&chunk, 0, sizeof chunk);
    while (drawing->chunks.at < drawing->chunks.size && chunk.tag != 'I') {
        result = lrq_next_chunk(&drawing->chunks, &chunk);
        if (result != LRQ_OK) { /* as far as an incomplete file goes */
            drawing->chunks.at = drawing->chunks.size;
            break;
        }
    }
    if (chunk.tag != 'I')
        memset(&chunk, 0, sizeof chunk);
    lrq_range_start(&from, &chunk);
    from.unknown = chunk.tag != 'I';
    for (i = 0; i < drawing->count; i++) {
        lrq_level *level = drawing->levels + i;
        level->near.rows = lrq_ceil(height, level->scale->span);
        lrq_see_parents(&drawing->scratch, &level->near, i > 0 ? &level[-1].near : NULL,
                        i > 0 ? level[-1].scale->span / level->scale->span : 1);
        result = lrq_decode_scale(&from, &drawing->scratch, drawing->model, level->scale, patches + i, &level->near,
                                  drawing->header);
        if (result != LRQ_OK)
            return result;
    }
    drawing->unknown |= from.unknown;
    drawing->decoded++;
    return LRQ_OK;
}

/* The codeword of an index, cut to the rank and the channels, in pairs of ranks. */
static void lrq_codeword(const lrq_drawing *drawing, const lrq_scale *scale, int channels, int i, uint32_t index,
                         int16_t *lefts, int16_t *rights)
{
    const int p = scale->side, rank = drawing->header->rank, stored = drawing->model->rank;
    const size_t row = scale->starts[i] + (index >> scale->symmetry_bits);
    const int symmetry = (int)index & (scale->symmetries - 1), mirror = symmetry >> 1 & 1, flip = symmetry >> 2 & 1,
              transpose = symmetry >> 3;
    const int sign = 1 - 2 * (symmetry & 1);
    const int8_t *u = (const int8_t *)scale->u + row * (size_t)(stored * p);
    const uint8_t *v = scale->v + 2 * row * (size_t)(stored * scale->channels * p);
    int r, a, c, to;
#ifdef LRQ_VECTORS
    if (p == 8
        || p == 4) { /* eight numbers at a time, of patches of 4 x 4 those of two channels; chosen without branches */
        const lrq_vector negate = LRQ_ALL16((int16_t) - (symmetry & 1)), one = LRQ_ALL16((int16_t)(symmetry & 1));
        const lrq_vector mirrored = LRQ_ALL16((int16_t)-mirror), flipped = LRQ_ALL16((int16_t)-flip),
                         transposed = LRQ_ALL16((int16_t)-transpose);
        const int v_row = 2 * p * scale->channels;
        for (r = 0; r < rank; r += 2) {
            int16_t *left = lefts + p * r, *right = rights + r * (int)drawing->product_stride;
            lrq_vector u0 = LRQ_WIDE(u + p * r), u1 = r + 1 < rank ? LRQ_WIDE(u + p * (r + 1)) : LRQ_ALL32(0);
            for (c = 0; 8 * c < channels * p; c++) {
                lrq_vector v0 = LRQ_LOAD(v + v_row * r + 16 * c),
                           v1 = r + 1 < rank ? LRQ_LOAD(v + v_row * (r + 1) + 16 * c) : LRQ_ALL32(0);
                const lrq_vector swap0 = LRQ_AND(LRQ_XOR(u0, v0), transposed),
                                 swap1 = LRQ_AND(LRQ_XOR(u1, v1), transposed);
                u0 = LRQ_XOR(u0, swap0);
                u1 = LRQ_XOR(u1, swap1);
                v0 = LRQ_XOR(v0, swap0);
                v1 = LRQ_XOR(v1, swap1);
                v0 = LRQ_CHOOSE(mirrored, p == 8 ? LRQ_REVERSED(v0) : LRQ_REVERSED_HALVES(v0), v0);
                v1 = LRQ_CHOOSE(mirrored, p == 8 ? LRQ_REVERSED(v1) : LRQ_REVERSED_HALVES(v1), v1);
                LRQ_STORE(right + 16 * c, LRQ_LOW(v0, v1));
                LRQ_STORE(right + 16 * c + 8, LRQ_HIGH(v0, v1));
            }
            u0 = LRQ_CHOOSE(flipped, p == 8 ? LRQ_REVERSED(u0) : LRQ_REVERSED_HALVES(u0), u0);
            u1 = LRQ_CHOOSE(flipped, p == 8 ? LRQ_REVERSED(u1) : LRQ_REVERSED_HALVES(u1), u1);
            u0 = LRQ_ADD16(LRQ_XOR(u0, negate), one);
            u1 = LRQ_ADD16(LRQ_XOR(u1, negate), one);
            LRQ_STORE(left, LRQ_LOW(u0, u1));
            if (p == 8)
                LRQ_STORE(left + 8, LRQ_HIGH(u0, u1));
        }
        return;
    }
#endif
    for (r = 0; r < rank; r++) {
        const int8_t *ur = u + r * p;
        const uint8_t *vr = v + 2 * r * scale->channels * p;
        int16_t *left = lefts + r / 2 * 2 * p + r % 2;
        int16_t *right = rights + r / 2 * 2 * (int)drawing->product_stride + r % 2;
        for (a = 0; a < p; a++) {
            const int from = flip ? p - 1 - a : a;
            const int value = sign * (transpose ? lrq_le16(vr + 2 * from) : ur[from]);
            left[2 * a] = (int16_t)value;
            if (r % 2 == 0)
                left[2 * a + 1] = 0;
        }
        for (c = 0; c < channels; c++)
            for (a = 0; a < p; a++) {
                to = c * p + (mirror ? p - 1 - a : a);
                right[2 * to] = transpose ? ur[a] : lrq_le16(vr + 2 * (c * p + a));
                if (r % 2 == 0)
                    right[2 * to + 1] = 0;
            }
    }
}

#ifdef LRQ_AVX2
/* lrq_multiply for some rows from `a` on. */
__attribute__((target("avx2"), always_inline)) static inline void lrq_multiply_rows(const lrq_drawing *drawing, int p,
                                                                                    int n, int a, const int rows)
{
    const size_t stride = drawing->product_stride;
    size_t b;
    int i, r;
    for (b = 0; b < stride; b += 8) {
        __m256i sums[8];
        for (r = 0; r < rows; r++)
            sums[r] = _mm256_setzero_si256();
        for (i = 0; i < n; i++) {
            const __m256i right =
                _mm256_loadu_si256((const __m256i *)(const void *)(drawing->rights + 2 * ((size_t)i * stride + b)));
            for (r = 0; r < rows; r++) {
                int32_t both;
                memcpy(&both, drawing->lefts + 2 * (i * p + a + r), sizeof both);
                sums[r] = _mm256_add_epi32(sums[r], _mm256_madd_epi16(right, _mm256_set1_epi32(both)));
            }
        }
        for (r = 0; r < rows; r++)
            _mm256_storeu_si256((__m256i *)(void *)(drawing->product + (size_t)(a + r) * stride + b), sums[r]);
    }
}

__attribute__((target("avx2"))) static void lrq_multiply_avx2(const lrq_drawing *drawing, int p, int n)
{
    int a = 0;
    for (; a + 8 <= p; a += 8)
        lrq_multiply_rows(drawing, p, n, a, 8);
    for (; a + 4 <= p; a += 4)
        lrq_multiply_rows(drawing, p, n, a, 4);
    for (; a < p; a += 2)
        lrq_multiply_rows(drawing, p, n, a, 2);
}
#endif

/* product[a][b] = the sum over n pairs of lefts[pair][a] * rights[pair][b]. */
static void lrq_multiply(const lrq_drawing *drawing, int p, int n)
{
    const uint32_t stride = drawing->product_stride;
    int a, i;
    uint32_t b;
#ifdef LRQ_AVX2
    if (__builtin_cpu_supports("avx2")) {
        lrq_multiply_avx2(drawing, p, n);
        return;
    }
#endif
#ifdef LRQ_VECTORS
    for (a = 0; a < p; a += 2)
        for (b = 0; b < stride; b += 8) {
            lrq_vector s0 = LRQ_ALL32(0), s1 = s0, s2 = s0, s3 = s0;
            for (i = 0; i < n; i++) {
                const int16_t *right = drawing->rights + 2 * ((size_t)i * stride + b);
                const lrq_vector r0 = LRQ_LOAD(right), r1 = LRQ_LOAD(right + 8);
                const lrq_vector l0 = lrq_pairs(drawing->lefts + 2 * (i * p + a)),
                                 l1 = lrq_pairs(drawing->lefts + 2 * (i * p + a + 1));
                s0 = LRQ_ADD32(s0, LRQ_DOT(r0, l0));
                s1 = LRQ_ADD32(s1, LRQ_DOT(r1, l0));
                s2 = LRQ_ADD32(s2, LRQ_DOT(r0, l1));
                s3 = LRQ_ADD32(s3, LRQ_DOT(r1, l1));
            }
            LRQ_STORE(drawing->product + (size_t)a * stride + b, s0);
            LRQ_STORE(drawing->product + (size_t)a * stride + b + 4, s1);
            LRQ_STORE(drawing->product + (size_t)(a + 1) * stride + b, s2);
            LRQ_STORE(drawing->product + (size_t)(a + 1) * stride + b + 4, s3);
        }
#else
    memset(drawing->product, 0, (size_t)p * stride * sizeof *drawing->product);
    for (i = 0; i < n; i++) {
        const int16_t *right = drawing->rights + 2 * (size_t)i * stride;
        for (a = 0; a < p; a++) {
            const int32_t l0 = drawing->lefts[2 * (i * p + a)], l1 = drawing->lefts[2 * (i * p + a) + 1];
            int32_t *product = drawing->product + (size_t)a * stride;
            for (b = 0; b < stride; b++)
                product[b] += l0 * right[2 * b] + l1 * right[2 * b + 1];
        }
    }
#endif
}

static lrq_result lrq_need_row(lrq_drawing *drawing, int k, uint32_t y);

/* Start the sums of row y of the next coarser scale, which become rows 2 * y and 2 * y + 1 of this one: 256 for
   rounding, and what enlargement and prediction give. */
static lrq_result lrq_predict(lrq_drawing *drawing, int k, uint32_t y)
{
    static const int16_t taps[2][4] = {{-3, 29, 111, -9}, {-9, 111, 29, -3}};
    lrq_level *level = drawing->levels + k, *coarser = level - 1;
    lrq_filter *filter = &level->filter;
    const uint32_t half = level->plane_columns / 2, last_row = coarser->plane_rows - 1;
    const uint32_t columns = half + 2 < coarser->plane_columns ? half + 2 : coarser->plane_columns;
    const uint32_t row_in_patch = 2 * y % (uint32_t)level->scale->side;
    const int has_filter = level->scale->prediction.hidden > 0, channels = filter->inputs;
    const int16_t *rows[5];
    int16_t *down = level->down + 2;
    lrq_result result = lrq_need_row(drawing, k - 1, y + 2 < last_row ? y + 2 : last_row);
    int c, q, i;
    if (result != LRQ_OK)
        return result;
    if (has_filter) {
        for (; filter->done < y + 2 && filter->done < filter->rows; lrq_hidden(filter))
            for (; filter->given < filter->done + 2 && filter->given < filter->rows; filter->given++)
                for (c = 0; c < channels; c += 2)
                    lrq_give(filter, c / 2, lrq_plane_row(coarser, c, filter->given),
                             c + 1 < channels ? lrq_plane_row(coarser, c + 1, filter->given) : NULL);
        lrq_filter_sums(filter, y, 0, half);
    }
    for (c = 0; c < channels; c++) {
        for (i = 0; i < 5; i++) {
            const uint32_t below = y + (uint32_t)i < 2 ? 0 : y + (uint32_t)i - 2;
            rows[i] = lrq_plane_row(coarser, c, below < last_row ? below : last_row);
        }
        for (q = 0; q < 2; q++) {
            int32_t *even =
                level->sums
                + (((size_t)c * (size_t)level->scale->side + row_in_patch + (size_t)q) * 2) * level->half_stride;
            const int32_t *change = has_filter ? filter->sums + (size_t)(4 * c + 2 * q) * filter->stride : NULL;
            lrq_enlarge_down(down, rows + q, taps[q], columns);
            down[-1] = down[-2] = down[0];
            down[columns] = down[columns + 1] = down[columns - 1];
            lrq_enlarge_across(even, down - 2, taps[0], change, half);
            lrq_enlarge_across(even + level->half_stride, down - 1, taps[1],
                               change != NULL ? change + filter->stride : NULL, half);
        }
    }
    return LRQ_OK;
}

/* Draw the next row of patches of a scale. */
static lrq_result lrq_draw_patches(lrq_drawing *drawing, int k)
{
    lrq_level *level = drawing->levels + k;
    const lrq_scale *scale = level->scale;
    const int p = scale->side, h = p / 2, pairs = (drawing->header->rank + 1) / 2;
    const int channels = scale->channels < drawing->channels ? scale->channels : drawing->channels;
    const uint32_t row = level->drawn / (uint32_t)p, strip = row / level->strip_rows, stride = level->near.stride;
    const size_t numbers = (size_t)(drawing->model->rank * p); /* of a left matrix */
    const lrq_patches *patches;
    lrq_result result;
    uint32_t x;
    int a, c, i;
    while (drawing->decoded <= strip) {
        result = lrq_decode_strip(drawing);
        if (result != LRQ_OK)
            return result;
    }
    patches = drawing->patches + (size_t)(strip % drawing->slots) * (size_t)drawing->count + k;
    if (k == 0) {
        const size_t count = (size_t)(channels * p) * 2 * level->half_stride;
        size_t n;
        for (n = 0; n < count; n++)
            level->sums[n] = 256;
    } else {
        for (i = 0; i < h; i++) {
            result = lrq_predict(drawing, k, level->drawn / 2 + (uint32_t)i);
            if (result != LRQ_OK)
                return result;
        }
    }
    for (x = 0; x < level->grid_columns; x++) {
        const size_t place = (size_t)(row % level->strip_rows + 1) * stride + x + 1;
        const int depth = patches->depths[place] < patches->known ? patches->depths[place] : patches->known;
        if (x + LRQ_AHEAD < level->grid_columns)
            for (i = 0; i < patches->depths[place + LRQ_AHEAD]; i++) {
                const size_t at =
                    scale->starts[i]
                    + (size_t)(patches->indices[(place + LRQ_AHEAD) * (size_t)scale->iterations + (size_t)i]
                               >> scale->symmetry_bits);
                const uint8_t *v = scale->v + 2 * at * numbers * (size_t)scale->channels;
                LRQ_FETCH(scale->u + at * numbers);
                for (c = 0; c < scale->channels; c++)
                    LRQ_FETCH(v + 2 * (size_t)c * numbers);
                LRQ_FETCH(v + 2 * (size_t)c * numbers - 1);
            }
        if (depth == 0)
            continue;
        for (i = 0; i < depth; i++)
            lrq_codeword(drawing, scale, channels, i, patches->indices[place * (size_t)scale->iterations + (size_t)i],
                         drawing->lefts + 2 * i * pairs * p,
                         drawing->rights + 2 * (size_t)(i * pairs) * drawing->product_stride);
        lrq_multiply(drawing, p, depth * pairs);
        for (c = 0; c < channels; c++)
            for (a = 0; a < p; a++) /* the even rows first */
                lrq_add(level->sums + (size_t)(2 * (c * p + (a < h ? 2 * a : 2 * (a - h) + 1))) * level->half_stride
                            + (size_t)x * (size_t)h,
                        level->half_stride, drawing->product + (size_t)a * drawing->product_stride + c * p, h);
    }
    for (c = 0; c < channels; c++)
        for (a = 0; a < p; a++) {
            const int32_t *even = level->sums + ((size_t)(c * p + a) * 2) * level->half_stride,
                          *odd = even + level->half_stride;
            lrq_interleave_clipped(lrq_plane_row(level, c, level->drawn + (uint32_t)a), even, odd, -LRQ_PLANE_LIMIT,
                                   level->plane_columns / 2);
        }
    level->drawn += (uint32_t)p;
    return LRQ_OK;
}

/* Draw a scale down to row y. */
static lrq_result lrq_need_row(lrq_drawing *drawing, int k, uint32_t y)
{
    while (drawing->levels[k].drawn <= y) {
        lrq_result result = lrq_draw_patches(drawing, k);
        if (result != LRQ_OK)
            return result;
    }
    return LRQ_OK;
}

/* ---- Pixels */

/* The last steps of the whole image, at half the resolution. */
typedef struct {
    lrq_filter filter;
    int fine, planes; /* channels of the finest scale; planes that are smoothed */
    uint32_t rows, columns;
    size_t stride;
    int16_t *smooth;           /* three rows of all planes, that of row y at y % 3 */
    uint32_t smoothed;         /* rows */
    int16_t *values[3], *down; /* a row of each channel; see lrq_interpolate */
} lrq_finish;

static int16_t *lrq_smooth_row(const lrq_finish *finish, int plane, uint32_t y)
{
    return finish->smooth + ((size_t)(y % 3) * (size_t)finish->planes + (size_t)plane) * finish->stride;
}

/* Give row y of all planes to smoothing: the phases of the finest scale, and the chroma of scale 2. */
static lrq_result lrq_give_phases(lrq_drawing *drawing, lrq_finish *finish, uint32_t y)
{
    const int finest = drawing->count - 1;
    lrq_result result = lrq_need_row(drawing, finest, 2 * y + 1);
    int i;
    if (result != LRQ_OK)
        return result;
    for (i = 0; i < 2 * finish->fine; i++) { /* the phases of a row lie in pairs already */
        const int16_t *row = lrq_plane_row(drawing->levels + finest, i / 2, 2 * y + (uint32_t)(i % 2));
        memcpy(lrq_input(&finish->filter, y, i) + 2, row, 2 * (size_t)finish->columns * sizeof *row);
    }
    if (finish->fine < drawing->channels)
        lrq_give(&finish->filter, i, lrq_plane_row(drawing->levels + finest - 1, 1, y),
                 lrq_plane_row(drawing->levels + finest - 1, 2, y));
    finish->filter.given++;
    return LRQ_OK;
}

/* Smooth down to row y. */
static lrq_result lrq_smooth(lrq_drawing *drawing, lrq_finish *finish, uint32_t y)
{
    lrq_filter *filter = &finish->filter;
    lrq_result result;
    uint32_t x;
    int i;
    for (; finish->smoothed <= y; finish->smoothed++) {
        const uint32_t row = finish->smoothed;
        while (filter->done < row + 2 && filter->done < filter->rows) {
            while (filter->given < filter->done + 2 && filter->given < filter->rows) {
                result = lrq_give_phases(drawing, finish, filter->given);
                if (result != LRQ_OK)
                    return result;
            }
            lrq_hidden(filter);
        }
        lrq_filter_sums(filter, row, 256, finish->columns);
        for (i = 0; i < finish->planes; i++) {
            const int16_t *input = lrq_input(filter, row, i / 2) + 2 + i % 2;
            const int32_t *sums = filter->sums + (size_t)i * filter->stride;
            int16_t *to = lrq_smooth_row(finish, i, row);
            for (x = 0; x < finish->columns; x++)
                to[x] =
                    (int16_t)lrq_clip(input[2 * x] + (sums[x] >> LRQ_WEIGHT_BITS), -LRQ_PLANE_LIMIT, LRQ_PLANE_LIMIT);
        }
    }
    return LRQ_OK;
}

/* Pixels of the whole image. */
static lrq_result lrq_draw_whole(lrq_drawing *drawing, uint8_t *pixels)
{
    const lrq_header *header = drawing->header;
    const int finest = drawing->count - 1, step = lrq_channels(header);
    lrq_level *level = drawing->levels + finest;
    lrq_finish finish;
    const int16_t *values[3] = {NULL, NULL, NULL};
    lrq_result result;
    uint32_t y, x;
    int c, q;
    memset(&finish, 0, sizeof finish);
    finish.fine = level->scale->channels < drawing->channels ? level->scale->channels : drawing->channels;
    finish.planes = 3 * finish.fine + drawing->channels;
    finish.rows = level->plane_rows / 2;
    finish.columns = level->plane_columns / 2;
    finish.stride = finish.columns + LRQ_SLACK;
    finish.down = (int16_t *)lrq_take(drawing->pool, finish.stride + 2, sizeof(int16_t));
    for (c = 0; c < 3; c++) {
        finish.values[c] = (int16_t *)lrq_take(drawing->pool, 2 * finish.stride, sizeof(int16_t));
        if (finish.values[c] == NULL)
            return LRQ_MEMORY;
    }
    if (finish.down == NULL)
        return LRQ_MEMORY;
    if (header->smoothing) {
        finish.smooth =
            (int16_t *)lrq_take(drawing->pool, (uint64_t)finish.planes * 3, finish.stride * sizeof(int16_t));
        if (finish.smooth == NULL
            || !lrq_filter_start(&finish.filter, drawing->pool, &drawing->model->smoothing, finish.planes,
                                 finish.planes, finish.rows, finish.columns, finish.columns))
            return LRQ_MEMORY;
    }
    for (y = 0; y < header->height; y++) {
        const uint32_t half = y / 2, last = finish.rows - 1;
        uint32_t beside = y % 2 == 0 ? (half > 0 ? half - 1 : 0) : (half < last ? half + 1 : last);
        q = (int)(y % 2);
        result = header->smoothing ? lrq_smooth(drawing, &finish, half < last ? half + 1 : last)
                                   : lrq_need_row(drawing, finest, y);
        if (result == LRQ_OK && finish.fine < drawing->channels)
            result = lrq_need_row(drawing, finest - 1, half < last ? half + 1 : last);
        if (result != LRQ_OK)
            return result;
        for (c = 0; c < drawing->channels; c++) {
            values[c] = finish.values[c];
            if (c < finish.fine && !header->smoothing) {
                values[c] = lrq_plane_row(level, c, y);
            } else if (c < finish.fine) {
                const int16_t *even = lrq_smooth_row(&finish, 4 * c + 2 * q, half);
                const int16_t *odd = lrq_smooth_row(&finish, 4 * c + 2 * q + 1, half);
                for (x = 0; x < finish.columns; x++) {
                    finish.values[c][2 * x] = even[x];
                    finish.values[c][2 * x + 1] = odd[x];
                }
            } else if (header->smoothing) {
                lrq_interpolate(finish.values[c], finish.down, lrq_smooth_row(&finish, 3 * finish.fine + c, half),
                                lrq_smooth_row(&finish, 3 * finish.fine + c, beside), finish.columns);
            } else {
                lrq_interpolate(finish.values[c], finish.down, lrq_plane_row(level - 1, c, half),
                                lrq_plane_row(level - 1, c, beside), finish.columns);
            }
        }
        lrq_pixels(pixels + (size_t)y * header->width * (size_t)step, (size_t)step, values[0], values[1], values[2],
                   header->width);
    }
    return LRQ_OK;
}

/* Pixels of an image at 1 / shrink of its size: those of a scale, or means of the coarsest one's. */
static lrq_result lrq_draw_reduced(lrq_drawing *drawing, uint8_t *pixels, int shrink)
{
    const lrq_header *header = drawing->header;
    lrq_level *level = drawing->levels + drawing->count - 1;
    const uint32_t rows = lrq_rows(header, shrink), columns = lrq_columns(header, shrink),
                   n = (uint32_t)(shrink / level->scale->number);
    const uint32_t last_row = level->plane_rows - 1, last_column = level->plane_columns - 1;
    const int step = lrq_channels(header);
    const int16_t *values[3] = {NULL, NULL, NULL};
    int16_t *means = NULL;
    lrq_result result;
    uint32_t y, x, i, j;
    int c, shift = 0;
    while (n >> shift > 1)
        shift++;
    if (n > 1) {
        means = (int16_t *)lrq_take(drawing->pool, (uint64_t)columns * 3, sizeof(int16_t));
        if (means == NULL)
            return LRQ_MEMORY;
    }
    for (y = 0; y < rows; y++) {
        result = lrq_need_row(drawing, drawing->count - 1, n * y + n - 1 < last_row ? n * y + n - 1 : last_row);
        if (result != LRQ_OK)
            return result;
        for (c = 0; c < drawing->channels; c++) {
            if (n == 1) {
                values[c] = lrq_plane_row(level, c, y);
                continue;
            }
            for (x = 0; x < columns; x++) {
                int32_t sum = (int32_t)(n * n / 2);
                for (j = 0; j < n; j++) {
                    const int16_t *row = lrq_plane_row(level, c, n * y + j < last_row ? n * y + j : last_row);
                    for (i = 0; i < n; i++)
                        sum += row[n * x + i < last_column ? n * x + i : last_column];
                }
                means[(size_t)c * columns + x] = (int16_t)(sum >> 2 * shift);
            }
            values[c] = means + (size_t)c * columns;
        }
        lrq_pixels(pixels + (size_t)y * columns * (size_t)step, (size_t)step, values[0], values[1], values[2], columns);
    }
    return LRQ_OK;
}

/* ---- Decoding */

/* Memory for the scales that are drawn, and how many strips must be kept at a time. */
static lrq_result lrq_start_drawing(lrq_drawing *drawing, int shrink)
{
    const lrq_model *model = drawing->model;
    const lrq_header *header = drawing->header;
    lrq_scratch *scratch = &drawing->scratch;
    uint64_t places = 0, most_places = 0, ahead = 0;
    uint32_t p_most = 0, columns_most = 0, iterations_most = 0, n;
    int k, slot;
    drawing->count = 1;
    while (drawing->count < model->scale_count && model->scales[drawing->count].number >= shrink)
        drawing->count++;
    {
        const uint32_t span = model->scales[0].span, columns = lrq_ceil(header->width, span);
        const uint64_t pixels = (uint64_t)span * span * columns;
        drawing->strip_height = (pixels > LRQ_STRIP_PIXELS ? 1 : (uint32_t)(LRQ_STRIP_PIXELS / pixels)) * span;
        drawing->strips = lrq_ceil(header->height, drawing->strip_height);
    }
    /* Rows that coarser scales are drawn ahead of finer ones: at most two, and what is missing to a row of patches. */
    for (k = drawing->count - 1; k >= 0; k--) {
        const uint32_t span = model->scales[k].span;
        ahead += 4 * (uint64_t)model->scales[k].number + 8;
        ahead = (ahead + span - 1) / span * span;
    }
    ahead = ahead / drawing->strip_height + 2;
    drawing->slots = ahead < drawing->strips ? (uint32_t)ahead : drawing->strips;
    drawing->patches = (lrq_patches *)lrq_take(drawing->pool, (uint64_t)drawing->slots * (uint64_t)drawing->count,
                                               sizeof(lrq_patches));
    if (drawing->patches == NULL)
        return LRQ_MEMORY;
    for (k = 0; k < drawing->count; k++) {
        const lrq_scale *scale = model->scales + k;
        lrq_level *level = drawing->levels + k;
        const uint32_t p = (uint32_t)scale->side;
        const uint32_t channels = (uint32_t)(scale->channels < drawing->channels ? scale->channels : drawing->channels);
        const uint32_t finer = k + 1 < drawing->count ? (uint32_t)scale[1].side / 2 : 16;
        const uint32_t strip_rows =
            lrq_ceil(drawing->strip_height < header->height ? drawing->strip_height : header->height, scale->span);
        level->scale = scale;
        level->grid_rows = lrq_ceil(header->height, scale->span);
        level->grid_columns = lrq_ceil(header->width, scale->span);
        level->strip_rows = drawing->strip_height / scale->span;
        level->plane_rows = level->grid_rows * p;
        level->plane_columns = level->grid_columns * p;
        level->kept = p + finer + 8;
        level->stride = level->plane_columns + LRQ_SLACK;
        level->half_stride = level->plane_columns / 2 + LRQ_SLACK;
        level->planes =
            (int16_t *)lrq_take(drawing->pool, (uint64_t)channels * level->kept, level->stride * sizeof(int16_t));
        level->sums =
            (int32_t *)lrq_take(drawing->pool, (uint64_t)channels * p * 2, level->half_stride * sizeof(int32_t));
        level->down = (int16_t *)lrq_take(drawing->pool, level->stride + 4, sizeof(int16_t));
        level->near.columns = level->grid_columns;
        level->near.stride = level->grid_columns + 2;
        places = (uint64_t)(strip_rows + 2) * level->near.stride;
        most_places = places > most_places ? places : most_places;
        level->near.totals = (uint16_t *)lrq_take(drawing->pool, places, sizeof(uint16_t));
        level->near.orientations = (int8_t *)lrq_take(drawing->pool, places, 1);
        level->near.frequencies = (uint8_t *)lrq_take(drawing->pool, places, 1);
        if (level->planes == NULL || level->sums == NULL || level->down == NULL || level->near.totals == NULL
            || level->near.orientations == NULL || level->near.frequencies == NULL)
            return LRQ_MEMORY;
        for (slot = 0; slot < (int)drawing->slots; slot++) {
            lrq_patches *patches = drawing->patches + (size_t)slot * (size_t)drawing->count + k;
            patches->depths = (uint8_t *)lrq_take(drawing->pool, places, 1);
            patches->indices =
                (uint16_t *)lrq_take(drawing->pool, places, (size_t)scale->iterations * sizeof(uint16_t));
            if (patches->depths == NULL || patches->indices == NULL)
                return LRQ_MEMORY;
        }
        if (k > 0) {
            const uint32_t half = level->plane_columns / 2, coarser = level[-1].plane_columns;
            if (!lrq_filter_start(&level->filter, drawing->pool, &scale->prediction, (int)channels, 4 * (int)channels,
                                  level[-1].plane_rows, half + 2 < coarser ? half + 2 : coarser,
                                  half + 1 < coarser ? half + 1 : coarser))
                return LRQ_MEMORY;
        }
        p_most = p > p_most ? p : p_most;
        columns_most = channels * p > columns_most ? channels * p : columns_most;
        iterations_most = (uint32_t)scale->iterations > iterations_most ? (uint32_t)scale->iterations : iterations_most;
    }
    n = iterations_most * (uint32_t)((header->rank + 1) / 2);
    drawing->product_stride = (columns_most + 7) / 8 * 8;
    drawing->lefts = (int16_t *)lrq_take(drawing->pool, (uint64_t)n * p_most, 2 * sizeof(int16_t));
    drawing->rights = (int16_t *)lrq_take(drawing->pool, (uint64_t)n * drawing->product_stride, 2 * sizeof(int16_t));
    drawing->product = (int32_t *)lrq_take(drawing->pool, (uint64_t)p_most * drawing->product_stride, sizeof(int32_t));
    scratch->group = (uint32_t *)lrq_take(drawing->pool, most_places, sizeof(uint32_t));
    scratch->order = (uint32_t *)lrq_take(drawing->pool, most_places, sizeof(uint32_t));
    scratch->symbols = (uint32_t *)lrq_take(drawing->pool, most_places, sizeof(uint32_t));
    scratch->cells = (uint16_t *)lrq_take(drawing->pool, most_places, sizeof(uint16_t));
    scratch->classes = (uint8_t *)lrq_take(drawing->pool, most_places, 1);
    scratch->parent_totals = (uint8_t *)lrq_take(drawing->pool, most_places, 4);
    if (drawing->lefts == NULL || drawing->rights == NULL || drawing->product == NULL || scratch->group == NULL
        || scratch->order == NULL || scratch->symbols == NULL || scratch->cells == NULL || scratch->classes == NULL
        || scratch->parent_totals == NULL)
        return LRQ_MEMORY;
    scratch->parent_totals_beside = scratch->parent_totals + most_places;
    scratch->parent_orientations = scratch->parent_totals + 2 * most_places;
    scratch->parent_frequencies = scratch->parent_totals + 3 * most_places;
    return LRQ_OK;
}

/* Checks 9 to 12. */
static lrq_result lrq_draw(lrq_pool *pool, uint8_t *pixels, size_t capacity, const lrq_model *model,
                           const lrq_header *header, const lrq_file *file, int shrink, int partial)
{
    lrq_drawing *drawing;
    lrq_result result;
    if (memcmp(header->model, model->fingerprint, 4) != 0)
        return LRQ_NOT_SUPPORTED;
    if (header->band >= model->bands || header->rank > model->rank || (header->colour && model->channels == 1)
        || (header->smoothing && model->smoothing.hidden == 0))
        return LRQ_NOT_VALID;
    drawing = (lrq_drawing *)lrq_take(pool, 1, sizeof *drawing);
    if (drawing == NULL)
        return LRQ_MEMORY;
    drawing->model = model;
    drawing->header = header;
    drawing->pool = pool;
    drawing->channels = header->colour ? 3 : 1;
    drawing->chunks = file->first;
    result = lrq_start_drawing(drawing, shrink);
    if (result != LRQ_OK)
        return result;
    if (partial ? file->strips > drawing->strips : file->strips != drawing->strips)
        return LRQ_NOT_VALID;
    if (lrq_size(header, shrink) > capacity)
        return LRQ_USAGE;
    result = shrink == 1 ? lrq_draw_whole(drawing, pixels) : lrq_draw_reduced(drawing, pixels, shrink);
    while (result == LRQ_OK && drawing->decoded < drawing->strips) /* of which no pixel depends */
        result = lrq_decode_strip(drawing);
    if (result == LRQ_OK && header->alpha) {
        if (file->alpha.tag != 0) {
            result = lrq_decode_alpha(pool, pixels, header, &file->alpha, shrink);
        } else {
            const uint64_t size = lrq_size(header, shrink);
            uint64_t at;
            for (at = (uint64_t)lrq_channels(header) - 1; at < size; at += (uint64_t)lrq_channels(header))
                pixels[at] = 255;
        }
    }
    return result != LRQ_OK ? result : file->incomplete || drawing->unknown ? LRQ_INCOMPLETE : LRQ_OK;
}

lrq_result lrq_decode(uint8_t *pixels, size_t capacity, const lrq_model *model, const uint8_t *data, size_t size,
                      const lrq_options *options, const lrq_allocator *allocator)
{
    const int shrink = options != NULL ? options->shrink : 1, partial = options != NULL && options->partial;
    const uint64_t limit = options != NULL && options->max_pixels > 0 ? options->max_pixels : LRQ_MAX_PIXELS;
    lrq_header header;
    lrq_file file;
    lrq_pool pool;
    lrq_result result;
    if ((shrink != 1 && shrink != 2 && shrink != 4 && shrink != 8 && shrink != 16) || !lrq_pool_start(&pool, allocator))
        return LRQ_USAGE;
    result = lrq_read_file(&file, &header, data, size, partial);
    if (result != LRQ_OK)
        return result;
    if ((uint64_t)header.width * header.height > limit)
        return LRQ_LIMIT;
    result = lrq_draw(&pool, pixels, capacity, model, &header, &file, shrink, partial);
    lrq_pool_end(&pool);
    return result;
}

#endif /* LRQ_IMPLEMENTATION */
