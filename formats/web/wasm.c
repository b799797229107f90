/* The decoder as WebAssembly: lrq.h without a libc, and what lrq.js calls. One instance has one model. */

#define LRQ_IMPLEMENTATION
#define LRQ_NO_MALLOC
#include "../c/lrq.h"

#define EXPORT(name) __attribute__((export_name(#name))) name

/* Memory: an arena that grows. What was allocated after the model is freed at once, by `reset`. */

extern uint8_t __heap_base; /* from the linker */

#define PAGE 65536
#define ALIGNMENT 16

static uintptr_t top;    /* the first free byte; 0 before the first allocation */
static uintptr_t bottom; /* where `reset` sets it to: behind the model */

/* Zero if the browser has no more memory. */
void *EXPORT(allocate)(size_t size) {
    if (!top) top = bottom = (uintptr_t)&__heap_base;
    uintptr_t start = (top + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
    if (start < top || size > UINTPTR_MAX - start) return NULL;
    uintptr_t end = start + size, have = (uintptr_t)__builtin_wasm_memory_size(0) * PAGE;
    if (end > have && __builtin_wasm_memory_grow(0, (end - have + PAGE - 1) / PAGE) == (size_t)-1) return NULL;
    top = end;
    return (void *)start;
}

void EXPORT(reset)(void) { top = bottom; }

static void *take(void *user, size_t size) {
    (void)user;
    return allocate(size);
}

static void leave(void *user, void *memory) { (void)user, (void)memory; }

static const lrq_allocator arena = {take, leave, NULL};

/* Each becomes one instruction. */
void *memcpy(void *restrict target, const void *restrict source, size_t size) {
    return __builtin_memcpy(target, source, size);
}

void *memmove(void *target, const void *source, size_t size) { return __builtin_memmove(target, source, size); }

void *memset(void *target, int value, size_t size) { return __builtin_memset(target, value, size); }

int memcmp(const void *left, const void *right, size_t size) {
    const uint8_t *a = left, *b = right;
    for (; size; size--, a++, b++)
        if (*a != *b) return *a - *b;
    return 0;
}

void *memchr(const void *memory, int value, size_t size) {
    const uint8_t *byte = memory;
    for (; size; size--, byte++)
        if (*byte == (uint8_t)value) return (void *)byte;
    return NULL;
}

/* What lrq.js calls. Results are those of lrq.h. */

static lrq_model *model;
static int fields[8];
static uint8_t fingerprint[4];
static uint8_t *pixels;

/* Of the last file or model; zeros if it could not be read. */
const uint8_t *EXPORT(get_fingerprint)(void) { return fingerprint; }

/* Width, height, colour, smoothing, rank, iterations, band and alpha of the last file. */
const int *EXPORT(get_fields)(void) { return fields; }

/* RGBA of the last image that was decoded. */
const uint8_t *EXPORT(get_pixels)(void) { return pixels; }

/* data: allocated before, and nothing else. */
lrq_result EXPORT(open_model)(const uint8_t *data, size_t size) {
    lrq_result result = lrq_model_open(&model, data, size, &arena);
    if (result) return result;
    memcpy(fingerprint, lrq_model_fingerprint(model), sizeof fingerprint);
    bottom = top;
    return LRQ_OK;
}

static lrq_result read(lrq_header *header, const uint8_t *data, size_t size) {
    memset(fingerprint, 0, sizeof fingerprint);
    lrq_result result = lrq_read_header(header, data, size);
    if (result) return result;
    int values[] = {(int)header->width, (int)header->height, header->colour, header->smoothing,
                    header->rank,       header->iterations,  header->band,   header->alpha};
    memcpy(fields, values, sizeof fields);
    memcpy(fingerprint, header->model, sizeof fingerprint);
    return LRQ_OK;
}

lrq_result EXPORT(read_header)(const uint8_t *data, size_t size) {
    lrq_header header;
    return read(&header, data, size);
}

/* Turn 1 to 4 channels into four, in place: the given ones are at the end of the memory for all. */
static void expand(uint8_t *rgba, size_t count, size_t channels) {
    const uint8_t *source = rgba + (4 - channels) * count;
    for (size_t i = 0; i < count; i++, source += channels, rgba += 4) {
        int grey = channels < 3;
        uint8_t red = source[0], green = source[grey ? 0 : 1], blue = source[grey ? 0 : 2];
        uint8_t alpha = channels % 2 ? 255 : source[channels - 1];
        rgba[0] = red, rgba[1] = green, rgba[2] = blue, rgba[3] = alpha;
    }
}

lrq_result EXPORT(decode)(const uint8_t *data, size_t size, int shrink, int partial, double max_pixels) {
    lrq_options options = {shrink, partial, (uint64_t)max_pixels};
    lrq_header header;
    lrq_result result = read(&header, data, size);
    if (result) return lrq_decode(NULL, 0, model, data, size, &options, &arena); /* of the whole file, it says why */
    size_t channels = (size_t)lrq_channels(&header), count = 0;
    if ((uint64_t)header.width * header.height <= options.max_pixels) {
        uint64_t wanted = lrq_size(&header, shrink) / channels;
        if (wanted > SIZE_MAX / 4) return LRQ_MEMORY;
        count = (size_t)wanted;
    } /* else lrq_decode says what is wrong: the size, or what comes before it in the order of checks */
    pixels = allocate(4 * count);
    if (!pixels) return LRQ_MEMORY;
    result = lrq_decode(pixels + (4 - channels) * count, channels * count, model, data, size, &options, &arena);
    if (result == LRQ_OK || result == LRQ_INCOMPLETE) expand(pixels, count, channels);
    return result;
}
