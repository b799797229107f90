/* lrqdec - decodes .lrq images to PGM, PPM and PAM. MIT licence, see LICENSE. */

#if !defined(_WIN32)
#define _POSIX_C_SOURCE 199309L
#endif
#define LRQ_IMPLEMENTATION
#include "lrq.h"

#include <stdio.h>
#include <time.h>

static const char usage[] = "usage: lrqdec [--shrink 2|4|8|16] [--partial] MODEL.lrqm IN.lrq OUT.ppm|OUT.pgm|OUT.pam\n"
                            "       lrqdec [--shrink 2|4|8|16] --time N MODEL.lrqm IN.lrq\n";

static int fail(lrq_result result, const char *what)
{
    static const char *const errors[] = {"",
                                         "memory is short, or a file cannot be read or written",
                                         "wrong usage",
                                         "not a valid .lrq file",
                                         "of a version or a model that is not supported",
                                         "more pixels than the limit"};
    fprintf(stderr, "lrqdec: error: %s: %s\n", what, errors[result]);
    return (int)result;
}

static uint8_t *read_file(const char *name, size_t *size)
{
    FILE *file = fopen(name, "rb");
    uint8_t *data = NULL;
    size_t room = 0, count;
    *size = 0;
    if (file == NULL)
        return NULL;
    do {
        uint8_t *more = (uint8_t *)realloc(data, room = 2 * room + 65536);
        if (more == NULL) {
            free(data);
            fclose(file);
            return NULL;
        }
        data = more;
        count = fread(data + *size, 1, room - *size, file);
        *size += count;
    } while (*size == room);
    if (ferror(file)) {
        free(data);
        data = NULL;
    }
    fclose(file);
    return data;
}

static double milliseconds(void)
{
#if defined(_WIN32)
    return 1e3 * (double)clock() / CLOCKS_PER_SEC;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
#endif
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median time of a decode, the model being open. */
static lrq_result time_decode(int times, uint8_t *pixels, size_t capacity, const lrq_model *model, const uint8_t *data,
                              size_t size, const lrq_options *options)
{
    double *durations = (double *)malloc((size_t)times * sizeof(double));
    lrq_result result = durations != NULL ? LRQ_OK : LRQ_MEMORY;
    int i;
    for (i = 0; i < times && result == LRQ_OK; i++) {
        double start = milliseconds();
        result = lrq_decode(pixels, capacity, model, data, size, options, NULL);
        durations[i] = milliseconds() - start;
    }
    if (result == LRQ_OK) {
        qsort(durations, (size_t)times, sizeof *durations, compare);
        printf("%.3f\n", (durations[(times - 1) / 2] + durations[times / 2]) / 2);
    }
    free(durations);
    return result;
}

/* Write beside the output, then rename: a failure leaves no half-written file. */
static int write_image(const char *name, const uint8_t *pixels, const lrq_header *header, int shrink)
{
    static const char *const types[] = {"", "GRAYSCALE", "GRAYSCALE_ALPHA", "RGB", "RGB_ALPHA"};
    const size_t length = strlen(name), size = (size_t)lrq_size(header, shrink);
    const int channels = lrq_channels(header), pam = length > 4 && strcmp(name + length - 4, ".pam") == 0;
    const unsigned rows = lrq_rows(header, shrink), columns = lrq_columns(header, shrink);
    char *temporary = (char *)malloc(length + 5);
    FILE *file;
    int ok;
    if (temporary == NULL)
        return 0;
    memcpy(temporary, name, length);
    memcpy(temporary + length, ".tmp", 5);
    file = fopen(temporary, "wb");
    if (file == NULL) {
        free(temporary);
        return 0;
    }
    if (pam)
        ok = fprintf(file, "P7\nWIDTH %u\nHEIGHT %u\nDEPTH %d\nMAXVAL 255\nTUPLTYPE %s\nENDHDR\n", columns, rows,
                     channels, types[channels])
             > 0;
    else
        ok = fprintf(file, "P%d\n%u %u\n255\n", channels == 1 ? 5 : 6, columns, rows) > 0;
    ok = ok && fwrite(pixels, 1, size, file) == size;
    ok = fclose(file) == 0 && ok;
    if (ok) {
#if defined(_WIN32)
        remove(name); /* rename does not replace there */
#endif
        ok = rename(temporary, name) == 0;
    }
    if (!ok)
        remove(temporary);
    free(temporary);
    return ok;
}

int main(int count, char **arguments)
{
    lrq_options options = {1, 0, 0};
    lrq_header header;
    lrq_model *model = NULL;
    lrq_result result;
    uint8_t *model_data, *data, *pixels = NULL;
    const char *out, *end;
    size_t model_size, size, length;
    int times = 0, at = 1;
    for (; at < count && arguments[at][0] == '-'; at++) {
        if (strcmp(arguments[at], "--partial") == 0)
            options.partial = 1;
        else if (strcmp(arguments[at], "--shrink") == 0 && at + 1 < count)
            options.shrink = atoi(arguments[++at]);
        else if (strcmp(arguments[at], "--time") == 0 && at + 1 < count && (times = atoi(arguments[at + 1])) > 0)
            at++;
        else
            break;
    }
    if (count - at != (times > 0 ? 2 : 3) || arguments[at][0] == '-') {
        fputs(usage, stderr);
        return LRQ_USAGE;
    }
    out = times > 0 ? NULL : arguments[at + 2];
    model_data = read_file(arguments[at], &model_size);
    if (model_data == NULL)
        return fail(LRQ_MEMORY, arguments[at]);
    data = read_file(arguments[at + 1], &size);
    if (data == NULL) {
        free(model_data);
        return fail(LRQ_MEMORY, arguments[at + 1]);
    }
    result = lrq_model_open(&model, model_data, model_size, NULL);
    if (result != LRQ_OK) {
        fail(result, arguments[at]);
        goto done;
    }
    result = lrq_read_header(&header, data, size);
    if (result != LRQ_OK) /* it takes the whole file to say what is wrong */
        result = lrq_decode(NULL, 0, model, data, size, &options, NULL);
    else if (options.shrink > 0) {
        /* Not more than the limit, whatever a header claims. */
        const uint64_t wanted = lrq_size(&header, options.shrink);
        const uint64_t room = (uint64_t)header.width * header.height > LRQ_MAX_PIXELS ? 1 : wanted;
        pixels = room <= SIZE_MAX ? (uint8_t *)malloc((size_t)room) : NULL;
        length = out != NULL ? strlen(out) : 0;
        end = length > 4 ? out + length - 4 : "";
        if (pixels == NULL)
            result = LRQ_MEMORY;
        else if (out != NULL && strcmp(end, ".pam") != 0
                 && (header.alpha || strcmp(end, header.colour ? ".ppm" : ".pgm") != 0)) {
            fail(LRQ_USAGE, header.alpha    ? "the image has alpha: OUT must end in .pam"
                            : header.colour ? "OUT must end in .ppm or .pam"
                                            : "OUT must end in .pgm or .pam");
            result = LRQ_USAGE;
            goto done;
        } else if (times > 0)
            result = time_decode(times, pixels, (size_t)room, model, data, size, &options);
        else
            result = lrq_decode(pixels, (size_t)room, model, data, size, &options, NULL);
    } else
        result = LRQ_USAGE;
    if (result != LRQ_OK && result != LRQ_INCOMPLETE)
        fail(result, arguments[at + 1]);
    else if (out != NULL && !write_image(out, pixels, &header, options.shrink)) {
        fail(LRQ_MEMORY, out);
        result = LRQ_MEMORY;
    } else if (result == LRQ_INCOMPLETE)
        fprintf(stderr, "lrqdec: %s is incomplete\n", arguments[at + 1]);
done:
    lrq_model_close(model);
    free(pixels);
    free(data);
    free(model_data);
    return (int)result;
}
