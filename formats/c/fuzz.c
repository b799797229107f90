/* A libFuzzer target for lrq.h. MIT licence, see LICENSE.

    make fuzzer
    LRQ_MODELS=photo.lrqm:mnist.lrqm ./lrqfuzz -max_len=400 CORPUS
    ./lrqfuzz-container -max_len=200 CORPUS

lrqfuzz-container reads header and chunks of inputs as they are, and with their checksums repaired. lrqfuzz does all
else. Models are made by `lrq models export`; small ones are many times faster. The first byte of an input of lrqfuzz
says what it is, the rest is its content:

    bit 0      a file as it is; otherwise one is built of fields and payloads, with checksums that match
    bit 1      partial
    bits 2..4  shrink
    bits 5..7  which model; if there are not so many, the content is a model file, with a SHA-256 that matches

Memory comes from an arena with poisoned gaps, so that AddressSanitizer sees every access out of bounds. */

#define LRQ_IMPLEMENTATION
#define LRQ_NO_MALLOC
#include "lrq.h"

#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>

static size_t put_crc(uint8_t *to, size_t from, size_t at)
{
    uint32_t crc = lrq_crc(0, to + from, at - from);
    int i;
    for (i = 0; i < 4; i++)
        to[at + (size_t)i] = (uint8_t)(crc >> 8 * i);
    return at + 4;
}

#ifdef CONTAINER

/* Make the checksums match, as far as there are chunks. */
static void repair(uint8_t *data, size_t size)
{
    lrq_bytes from;
    uint64_t number;
    size_t start = 0;
    from = lrq_bytes_of(data, size);
    from.at = 4;
    if (size < 4 || !lrq_varint(&from, &number) || !lrq_varint(&from, &number) || size - from.at < 6)
        return;
    from.at += 6;
    while (from.at < size) {
        from.at++;
        if (!lrq_varint(&from, &number) || number > size - from.at || size - from.at - number < 4)
            return;
        from.at = put_crc(data, start, from.at + (size_t)number);
        start = from.at - 4;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = (uint8_t *)malloc(size);
    lrq_header header;
    lrq_file file;
    int partial;
    memcpy(copy, data, size);
    repair(copy, size);
    for (partial = 0; partial < 2; partial++) {
        lrq_read_file(&file, &header, data, size, partial);
        lrq_read_file(&file, &header, copy, size, partial);
    }
    lrq_read_header(&header, copy, size);
    free(copy);
    return 0;
}

#else

#define ARENA ((size_t)1 << 26)
#define MAX_PIXELS 4096
#define MAX_MODELS 6

static uint8_t *arena;
static size_t used;
static lrq_model *models[MAX_MODELS];
static int model_count;

static void *allocate(void *user, size_t size)
{
    uint8_t *memory = arena + used;
    (void)user;
    if (size > ARENA - used - 64)
        return NULL;
    used += (size + 63) / 32 * 32; /* at least 32 bytes stay poisoned */
    __asan_unpoison_memory_region(memory, size);
    memset(memory, 0xA5, size);
    return memory;
}

static void release(void *user, void *memory)
{
    (void)user;
    (void)memory;
}

static const lrq_allocator allocator = {allocate, release, NULL};

static void *allocate_for_good(void *user, size_t size)
{
    (void)user;
    return malloc(size);
}

static const lrq_allocator heap = {allocate_for_good, release, NULL}; /* of the models */

static void start_arena(void)
{
    __asan_poison_memory_region(arena, used);
    used = 0;
}

static uint8_t *read_file(const char *name, size_t *size)
{
    FILE *file = fopen(name, "rb");
    uint8_t *data = (uint8_t *)malloc(1 << 24);
    if (file == NULL || data == NULL) {
        fprintf(stderr, "cannot read %s\n", name);
        exit(1);
    }
    *size = fread(data, 1, 1 << 24, file);
    fclose(file);
    return data;
}

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
    char *names = getenv("LRQ_MODELS");
    (void)count;
    (void)arguments;
    arena = (uint8_t *)malloc(ARENA);
    if (arena == NULL || names == NULL) {
        fputs("LRQ_MODELS names no model files\n", stderr);
        exit(1);
    }
    used = ARENA;
    for (names = strtok(names, ":"); names != NULL && model_count < MAX_MODELS; names = strtok(NULL, ":")) {
        size_t size;
        uint8_t *data = read_file(names, &size);
        if (lrq_model_open(&models[model_count++], data, size, &heap) != LRQ_OK) {
            fprintf(stderr, "%s is not a model\n", names);
            exit(1);
        }
    }
    return 0;
}

static size_t put_varint(uint8_t *to, uint64_t value)
{
    size_t at = 0;
    for (; value > 127; value >>= 7)
        to[at++] = (uint8_t)(value & 127) | 128;
    to[at++] = (uint8_t)value;
    return at;
}

/* A file of a header of six bytes and chunks, each of a tag and a length. `to` has room for three times the content. */
static size_t build(uint8_t *to, const uint8_t *content, size_t size, const uint8_t *model)
{
    static const uint8_t start[4] = {'L', 'R', 'Q', 0x81};
    static const uint8_t tags[8] = {'I', 'I', 'I', 'A', 'c', 'q', 'e', 'Z'};
    size_t at = 4, from = 0, i, length;
    memcpy(to, start, 4);
    at += put_varint(to + at, content[0] + 256u * (content[1] == 255));
    at += put_varint(to + at, content[2] + 256u * (content[3] == 255));
    to[at++] = content[4];
    to[at++] = content[5] & 63;
    memcpy(to + at, model, 4);
    at += 4;
    for (i = 6; i + 2 <= size; i += length) {
        to[at++] = tags[content[i] % 8];
        length = content[i + 1];
        i += 2;
        length = length < size - i ? length : size - i;
        at += put_varint(to + at, length);
        memcpy(to + at, content + i, length);
        at = put_crc(to, from, at + length);
        from = at - 4;
    }
    return content[4] % 16 == 3 ? at - content[5] % 5 : at; /* some are cut */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t pixels[4 * MAX_PIXELS];
    static const int shrinks[8] = {1, 1, 1, 1, 2, 4, 8, 16};
    lrq_options options;
    uint8_t *file;
    lrq_header header;
    size_t length;
    int number;
    if (size < 8)
        return 0;
    start_arena();
    number = data[0] >> 5;
    if (number >= model_count) {
        lrq_model *model;
        file = (uint8_t *)malloc(size + 31);
        memcpy(file, data + 1, size - 1);
        lrq_sha256(file + size - 1, file, size - 1);
        if (lrq_model_open(&model, file, size + 31, &allocator) == LRQ_OK)
            lrq_model_close(model);
        free(file);
        return 0;
    }
    options.shrink = shrinks[data[0] >> 2 & 7];
    options.partial = data[0] >> 1 & 1;
    options.max_pixels = MAX_PIXELS;
    file = (uint8_t *)malloc(3 * size + 64);
    if (data[0] & 1) {
        length = size - 1;
        memcpy(file, data + 1, length);
    } else {
        length = build(file, data + 1, size - 1, lrq_model_fingerprint(models[number]));
    }
    file = (uint8_t *)realloc(file, length); /* so that what lies behind it is out of bounds */
    if (lrq_read_header(&header, file, length) == LRQ_OK) {
        const uint64_t wanted =
            (uint64_t)header.width * header.height <= MAX_PIXELS ? lrq_size(&header, options.shrink) : 0;
        lrq_decode(pixels, (size_t)wanted, models[number], file, length, &options, &allocator);
    } else {
        lrq_decode(pixels, 0, models[number], file, length, &options, &allocator);
    }
    free(file);
    return 0;
}

#endif
