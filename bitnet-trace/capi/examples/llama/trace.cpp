// Evaluates the tokens of a prompt with llama.cpp, continues it greedily, and records every node of the graphs that the
// filter keeps: the callback of bitnet_trace_ggml.h, and a scope for each call. `run` builds this file.
#include "llama.h"

#include "bitnet_trace_ggml.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Tokens = std::vector<llama_token>;

[[noreturn]] void fail(const std::string &message, int code = 1) {
    std::fprintf(stderr, "error: %s\n", message.c_str());
    std::exit(code);
}

[[noreturn]] void usage(const std::string &message) {
    fail(message + "\nusage: trace MODEL.gguf (--tokens 1,17,200 | --prompt TEXT) [--max-new-tokens N]", 2);
}

// A number from 0 to 2^31 - 1 at the start of a text; `end` is set behind it.
int32_t number(const char *text, const char **end) {
    char *behind = nullptr;
    const long value = std::strtol(text, &behind, 10);
    if (behind == text || value < 0 || value > INT32_MAX) {
        usage(std::string("expected a number in ") + text);
    }
    *end = behind;
    return (int32_t)value;
}

Tokens listed(const char *text) {
    Tokens tokens;
    for (;;) {
        tokens.push_back(number(text, &text));
        if (*text == '\0') {
            return tokens;
        }
        if (*text++ != ',') {
            usage("expected token ids with commas between them");
        }
    }
}

// As in [1,17,200].
std::string list(const Tokens &tokens) {
    std::string text = "[";
    for (size_t i = 0; i < tokens.size(); i++) {
        text += (i > 0 ? "," : "") + std::to_string(tokens[i]);
    }
    return text + "]";
}

struct Arguments {
    const char *model = nullptr;
    const char *prompt = nullptr;
    Tokens tokens;
    int32_t max_new_tokens = 1;

    Arguments(int argc, char **argv) {
        for (int i = 1; i < argc; i++) {
            const std::string argument = argv[i];
            const bool is_option = argument.rfind("--", 0) == 0;
            if (is_option && i + 1 == argc) {
                usage(argument + " needs a value");
            }
            if (argument == "--tokens") {
                tokens = listed(argv[++i]);
            } else if (argument == "--prompt") {
                prompt = argv[++i];
            } else if (argument == "--max-new-tokens") {
                const char *end = nullptr;
                max_new_tokens = number(argv[++i], &end);
                if (*end != '\0' || max_new_tokens == 0) {
                    usage("--max-new-tokens must be a number above 0");
                }
            } else if (is_option || model) {
                usage("unexpected argument " + argument);
            } else {
                model = argv[i];
            }
        }
        if (!model || tokens.empty() == !prompt) {
            usage("a model is needed, and either --tokens or --prompt");
        }
    }
};

Tokens encoded(const llama_vocab *vocab, const char *text) {
    // llama.cpp aborts without one.
    if (llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_NONE) {
        fail("the model has no tokenizer; give it --tokens instead of --prompt");
    }
    const auto length = (int32_t)std::strlen(text);
    // With room for none it returns the number that it needs, negated.
    const int32_t count = -llama_tokenize(vocab, text, length, nullptr, 0, true, true);
    Tokens tokens(count > 0 ? (size_t)count : 0);
    if (tokens.empty() || llama_tokenize(vocab, text, length, tokens.data(), count, true, true) != count) {
        fail("the model's tokenizer cannot encode the prompt; give it --tokens");
    }
    return tokens;
}

// Evaluates tokens from a position on, as the step `seq`. Returns the most likely next token.
llama_token evaluated(llama_context *context, int32_t n_vocab, const Tokens &tokens, int32_t position, int64_t seq) {
    llama_batch batch = llama_batch_init((int32_t)tokens.size(), 0, 1);
    batch.n_tokens = (int32_t)tokens.size();
    for (int32_t i = 0; i < batch.n_tokens; i++) {
        batch.token[i] = tokens[(size_t)i];
        batch.pos[i] = position + i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        // Logits of every token: otherwise the last layer is computed for the last token alone.
        batch.logits[i] = 1;
    }
    bt_scope_enter(seq, -1);
    bt_scope_enter_tokens(position, position + batch.n_tokens);
    const int32_t status = llama_decode(context, batch);
    bt_scope_leave();
    bt_scope_leave();
    llama_batch_free(batch);
    if (status != 0) {
        fail("llama_decode returned " + std::to_string(status));
    }
    const float *logits = llama_get_logits_ith(context, -1);
    if (!logits) {
        fail("there are no logits");
    }
    int32_t best = 0;
    for (int32_t i = 1; i < n_vocab; i++) {
        if (logits[i] > logits[best]) {
            best = i;
        }
    }
    return best;
}

} // namespace

int main(int argc, char **argv) {
    const Arguments arguments(argc, argv);
    llama_log_set([](ggml_log_level level, const char *text, void *) {
        if (level == GGML_LOG_LEVEL_ERROR) {
            std::fputs(text, stderr);
        }
    }, nullptr);
    llama_model_params model_params = llama_model_default_params();
    // The weights as the file has them, and in the memory of the host.
    model_params.use_extra_bufts = false;
    model_params.n_gpu_layers = 0;
    llama_model *model = llama_model_load_from_file(arguments.model, model_params);
    if (!model) {
        fail(std::string("cannot load ") + arguments.model);
    }
    const llama_vocab *vocab = llama_model_get_vocab(model);
    const int32_t n_vocab = llama_vocab_n_tokens(vocab);
    const Tokens prompt = arguments.prompt ? encoded(vocab, arguments.prompt) : arguments.tokens;
    for (const llama_token token : prompt) {
        if (token >= n_vocab) {
            fail("token " + std::to_string(token) + " is not below " + std::to_string(n_vocab));
        }
    }

    llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)prompt.size() + (uint32_t)arguments.max_new_tokens;
    // The prompt in one graph.
    params.n_batch = params.n_ubatch = (uint32_t)prompt.size();
    // The attention in nodes of its own, and a cache that does not round.
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.type_k = params.type_v = GGML_TYPE_F32;
    params.cb_eval = bt_ggml_eval;
    llama_context *context = llama_init_from_model(model, params);
    if (!context) {
        fail("cannot make a context");
    }

    bt_annotate("model", arguments.model);
    bt_annotate_json("prompt_tokens", list(prompt).c_str());
    Tokens generated;
    Tokens step = prompt;
    int32_t position = 0;
    for (int32_t seq = 0; seq < arguments.max_new_tokens; seq++) {
        const llama_token next = evaluated(context, n_vocab, step, position, seq);
        position += (int32_t)step.size();
        generated.push_back(next);
        step = {next};
        if (llama_vocab_is_eog(vocab, next)) {
            break;
        }
    }
    bt_annotate_json("generated_tokens", list(generated).c_str());
    const std::string text = list(generated);
    std::printf("%s\n", text.substr(1, text.size() - 2).c_str());
    llama_free(context);
    llama_model_free(model);
    return 0;
}
