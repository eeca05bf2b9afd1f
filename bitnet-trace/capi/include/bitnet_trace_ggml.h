/* Records the nodes of a ggml graph: llama.cpp, bitnet.cpp, whisper.cpp and other programs on ggml.
 *
 * It is a callback of the scheduler, `ggml_backend_sched_eval_callback`:
 *
 *     #include "ggml.h"
 *     #include "bitnet_trace_ggml.h"
 *
 *     params.cb_eval = bt_ggml_eval;                               // llama.cpp: llama_context_params
 *     ggml_backend_sched_set_eval_callback(sched, bt_ggml_eval, NULL);   // ggml itself
 *
 * The scheduler is asked only for nodes that the filter keeps (`BITNET_TRACE_FILTER`, or that of a session): all other
 * nodes are computed in batches, as without the callback. A record has the node's name, as in "Qcur-3"; the map
 * `--map llama.cpp` of the command gives it a stage. Its dimensions are ggml's, reversed to row-major order. A quantised
 * tensor is recorded as the f32 numbers that ggml makes of it, 8-bit integers as 16-bit ones. Steps are the program's:
 * `bt_scope_enter(step, -1)` around each decode.
 *
 * Tensors in the memory of an accelerator need a function that copies them, which `user_data` names:
 *
 *     static struct bt_ggml_options options = {ggml_backend_tensor_get};
 *     params.cb_eval_user_data = &options;
 *
 * Needs `ggml.h`, included before it, and nothing else of ggml. */

#ifndef BITNET_TRACE_GGML_H
#define BITNET_TRACE_GGML_H

#include <stdbool.h>
#include <stdlib.h>

#include "bitnet_trace.h"

/* What `user_data` may point to; NULL stands for tensors in the memory of the host. */
struct bt_ggml_options {
    /* Copies `size` bytes from `offset` of a tensor's data to the host: `ggml_backend_tensor_get`. */
    void (*get)(const struct ggml_tensor *tensor, void *data, size_t offset, size_t size);
};

/* The `bt_dtype` of a type that is recorded as it is, or -1. */
static inline int32_t bt_ggml_dtype(enum ggml_type type) {
    switch (type) {
        case GGML_TYPE_F32: return BT_F32;
        case GGML_TYPE_F16: return BT_F16;
        case GGML_TYPE_BF16: return BT_BF16;
        case GGML_TYPE_F64: return BT_F64;
        case GGML_TYPE_I16: return BT_I16;
        case GGML_TYPE_I32: return BT_I32;
        case GGML_TYPE_I64: return BT_I64;
        default: return -1;
    }
}

/* Whether the elements can be read: not if they are part of a larger structure, nor if the blocks of a quantised tensor
 * lie across its rows, as in a transposed view. ggml converts neither. */
static inline bool bt_ggml_is_readable(const struct ggml_tensor *t) {
    const size_t size = ggml_type_size(t->type);
    if (bt_ggml_dtype(t->type) < 0) {
        return t->type == GGML_TYPE_I8 || (t->nb[0] == size && t->ne[0] % ggml_blck_size(t->type) == 0);
    }
    for (int i = 0; i < GGML_MAX_DIMS; i++) {
        if (t->ne[i] > 1 && t->nb[i] % size != 0) {
            return false;
        }
    }
    return true;
}

/* Converts the rows of a tensor, one after the other, to f32, or 8-bit integers to 16-bit ones. Returns the new memory,
 * or NULL. */
static inline void *bt_ggml_converted(const struct ggml_tensor *t, const char *data) {
    const ggml_to_float_t to_float = ggml_get_type_traits(t->type)->to_float;
    const bool is_integer = t->type == GGML_TYPE_I8;
    const size_t width = is_integer ? sizeof(int16_t) : sizeof(float);
    const size_t row = (size_t)t->ne[0] * width;
    char *rows = (is_integer || to_float) ? (char *)malloc(row * (size_t)(t->ne[1] * t->ne[2] * t->ne[3])) : NULL;
    char *to = rows;
    if (!rows) {
        return NULL;
    }
    for (int64_t i3 = 0; i3 < t->ne[3]; i3++) {
        for (int64_t i2 = 0; i2 < t->ne[2]; i2++) {
            for (int64_t i1 = 0; i1 < t->ne[1]; i1++) {
                const char *from = data + (size_t)i1 * t->nb[1] + (size_t)i2 * t->nb[2] + (size_t)i3 * t->nb[3];
                if (is_integer) {
                    for (int64_t i0 = 0; i0 < t->ne[0]; i0++) {
                        ((int16_t *)(void *)to)[i0] = *(const int8_t *)(from + (size_t)i0 * t->nb[0]);
                    }
                } else {
                    to_float(from, (float *)(void *)to, t->ne[0]);
                }
                to += row;
            }
        }
    }
    return rows;
}

/* Records one tensor of ggml under its name, in the scope of this thread. */
static inline bt_status bt_ggml_record(const struct ggml_tensor *t, const struct bt_ggml_options *options) {
    const int n_dims = ggml_n_dims(t);
    int32_t dtype = bt_ggml_dtype(t->type);
    int64_t dims[GGML_MAX_DIMS];
    int64_t strides[GGML_MAX_DIMS];
    const bool is_strided = dtype >= 0;
    const bool is_empty = ggml_is_empty(t);
    const char *data = (const char *)t->data;
    void *copied = NULL;
    void *converted = NULL;
    bt_status status;
    for (int i = 0; i < n_dims; i++) {
        dims[i] = t->ne[n_dims - 1 - i];
        strides[i] = is_strided ? (int64_t)(t->nb[n_dims - 1 - i] / ggml_type_size(t->type)) : 0;
    }
    if (!bt_ggml_is_readable(t)) {
        data = NULL;
    }
    if (options && options->get && data && !is_empty) {
        const size_t size = ggml_nbytes(t);
        copied = malloc(size);
        if (copied) {
            options->get(t, copied, 0, size);
        }
        data = (const char *)copied;
    }
    if (!is_strided) {
        dtype = t->type == GGML_TYPE_I8 ? BT_I16 : BT_F32;
        converted = (data && !is_empty) ? bt_ggml_converted(t, data) : NULL;
        data = (const char *)converted;
    }
    /* Without data it is counted as lost. */
    status = bt_record(t->name, data, dtype, n_dims, dims, is_strided ? strides : NULL, NULL);
    free(converted);
    free(copied);
    return status;
}

/* The callback: a `ggml_backend_sched_eval_callback`. It never cancels the computation. */
static inline bool bt_ggml_eval(struct ggml_tensor *t, bool ask, void *user_data) {
    if (ask) {
        return bt_wants(t->name, NULL) != 0;
    }
    bt_ggml_record(t, (const struct bt_ggml_options *)user_data);
    return true;
}

#endif /* BITNET_TRACE_GGML_H */
