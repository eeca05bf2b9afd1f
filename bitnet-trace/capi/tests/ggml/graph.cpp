// A real ggml graph with the callback of bitnet_trace_ggml.h: named nodes, a strided view, a transposition, quantised
// weights. Prints for each node what ggml itself reads of it, which `check.py` compares with the records.
#include "ggml.h"

#include "bitnet_trace_ggml.h"
// The header above needs nothing below.
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <vector>

static std::set<std::string> asked_for;

static bool callback(ggml_tensor *t, bool ask, void *user_data) {
    const bool wanted = bt_ggml_eval(t, ask, user_data);
    if (ask && wanted) {
        asked_for.insert(t->name);
    }
    // Blocks across the rows: nothing reads them, and the record is counted as lost.
    if (!ask && !(ggml_is_quantized(t->type) && t->nb[0] != ggml_type_size(t->type))) {
        // Every element, by its index, as ggml reads it.
        std::printf("%s", t->name);
        for (int i = ggml_n_dims(t) - 1; i >= 0; i--) {
            std::printf("%c%lld", i == ggml_n_dims(t) - 1 ? ' ' : 'x', (long long)t->ne[i]);
        }
        for (int64_t i3 = 0; i3 < t->ne[3]; i3++) {
            for (int64_t i2 = 0; i2 < t->ne[2]; i2++) {
                for (int64_t i1 = 0; i1 < t->ne[1]; i1++) {
                    std::vector<float> row(t->ne[0]);
                    const char *from = (const char *)t->data + i1 * t->nb[1] + i2 * t->nb[2] + i3 * t->nb[3];
                    if (ggml_is_quantized(t->type)) {
                        ggml_get_type_traits(t->type)->to_float(from, row.data(), t->ne[0]);
                    } else {
                        for (int64_t i0 = 0; i0 < t->ne[0]; i0++) {
                            const char *at = from + i0 * t->nb[0];
                            float value = 0;
                            if (t->type == GGML_TYPE_F32) {
                                std::memcpy(&value, at, sizeof value);
                            } else if (t->type == GGML_TYPE_F16) {
                                ggml_fp16_t half;
                                std::memcpy(&half, at, sizeof half);
                                value = ggml_fp16_to_fp32(half);
                            } else if (t->type == GGML_TYPE_I32) {
                                int32_t integer;
                                std::memcpy(&integer, at, sizeof integer);
                                value = (float)integer;
                            } else {
                                std::fprintf(stderr, "%s has a type that is not expected\n", t->name);
                                std::exit(1);
                            }
                            row[i0] = value;
                        }
                    }
                    for (float value : row) {
                        std::printf(" %a", value);
                    }
                }
            }
        }
        std::printf("\n");
    }
    return wanted;
}

static ggml_tensor *named(ggml_tensor *t, const char *name) {
    ggml_set_name(t, name);
    return t;
}

int main(int argc, char **argv) {
    const bool copies = argc > 1 && std::strcmp(argv[1], "copied") == 0;
    ggml_backend_t backend = ggml_backend_cpu_init();
    ggml_init_params params = {16 * 1024 * 1024, nullptr, true};
    ggml_context *ctx = ggml_init(params);
    const int64_t width = 64, heads = 4, tokens = 3;
    ggml_tensor *x = named(ggml_new_tensor_2d(ctx, GGML_TYPE_F32, width, tokens), "x");
    ggml_tensor *weight = named(ggml_new_tensor_2d(ctx, GGML_TYPE_Q8_0, width, width), "weight");
    ggml_tensor *ids = named(ggml_new_tensor_1d(ctx, GGML_TYPE_I32, tokens), "ids");

    ggml_tensor *q = named(ggml_mul_mat(ctx, weight, x), "Qcur-0");
    ggml_tensor *by_head = named(ggml_reshape_3d(ctx, q, width / heads, heads, tokens), "Qcur-0 (reshaped)");
    ggml_tensor *turned = named(ggml_permute(ctx, by_head, 0, 2, 1, 3), "q-0");
    ggml_tensor *part = named(ggml_view_2d(ctx, q, width / 2, tokens, q->nb[1], sizeof(float) * 8), "part-0");
    ggml_tensor *transposed = named(ggml_transpose(ctx, q), "transposed-0");
    ggml_tensor *half = named(ggml_cast(ctx, q, GGML_TYPE_F16), "half-0");
    ggml_tensor *quantised = named(ggml_cast(ctx, q, GGML_TYPE_Q8_0), "quantised-0");
    ggml_tensor *across = named(ggml_transpose(ctx, quantised), "across-0");
    ggml_tensor *rows = named(ggml_get_rows(ctx, weight, ids), "rows-0");
    ggml_tensor *order = named(ggml_argsort(ctx, q, GGML_SORT_ORDER_DESC), "order-0");
    ggml_tensor *again = named(ggml_scale(ctx, q, 2.0f), "twice");
    ggml_tensor *twice = named(ggml_scale(ctx, again, 2.0f), "twice");

    ggml_cgraph *graph = ggml_new_graph(ctx);
    for (ggml_tensor *t : {turned, part, transposed, half, quantised, across, rows, order, twice}) {
        ggml_build_forward_expand(graph, t);
    }
    ggml_backend_sched_t sched = ggml_backend_sched_new(&backend, nullptr, 1, GGML_DEFAULT_GRAPH_SIZE, false, false);
    bt_ggml_options options = {ggml_backend_tensor_get};
    ggml_backend_sched_set_eval_callback(sched, callback, copies ? &options : nullptr);
    if (!ggml_backend_sched_alloc_graph(sched, graph)) {
        std::fprintf(stderr, "the graph cannot be allocated\n");
        return 1;
    }
    std::vector<float> values(width * tokens), weights(width * width);
    for (size_t i = 0; i < values.size(); i++) values[i] = (float)((i * 37) % 101) / 50.0f - 1.0f;
    for (size_t i = 0; i < weights.size(); i++) weights[i] = (float)((i * 53) % 97) / 480.0f - 0.1f;
    std::vector<char> packed(ggml_row_size(GGML_TYPE_Q8_0, width) * width);
    ggml_quantize_chunk(GGML_TYPE_Q8_0, weights.data(), packed.data(), 0, width, width, nullptr);
    const int32_t chosen[3] = {5, 0, 63};
    ggml_backend_tensor_set(x, values.data(), 0, ggml_nbytes(x));
    ggml_backend_tensor_set(weight, packed.data(), 0, packed.size());
    ggml_backend_tensor_set(ids, chosen, 0, sizeof chosen);

    bt_scope_enter(0, -1);
    const ggml_status status = ggml_backend_sched_graph_compute(sched, graph);
    bt_scope_leave();
    std::fprintf(stderr, "asked for %zu nodes\n", asked_for.size());
    ggml_backend_sched_free(sched);
    ggml_free(ctx);
    ggml_backend_free(backend);
    return status == GGML_STATUS_SUCCESS ? 0 : 1;
}
