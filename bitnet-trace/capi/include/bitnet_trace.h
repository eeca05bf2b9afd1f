/* The C ABI of bitnet-trace: records tensors of programs in C and C++.
 *
 * Every function may be called from every thread. None throws, aborts or unwinds. What goes wrong is returned as a
 * `bt_status`, explained by `bt_last_error`, and counted in the trace as lost; the program goes on.
 *
 * This file is generated from bitnet-trace/capi/src: change it there. */

#ifndef BITNET_TRACE_H
#define BITNET_TRACE_H

#include <stddef.h>
#include <stdint.h>

/*
 What a call came to. `bt_last_error` says more about everything but `BT_OK`.
 */
typedef enum bt_status {
    /*
     Done, or nothing had to be done because nothing records.
     */
    BT_OK = 0,
    /*
     An argument that is needed is NULL.
     */
    BT_NULL = 1,
    /*
     An argument has a value that is not allowed.
     */
    BT_INVALID = 2,
    /*
     There is no such session: it was never started, or it is finished.
     */
    BT_NO_SESSION = 3,
    /*
     A scope or session was left that is not the innermost one of this thread.
     */
    BT_NOT_INNERMOST = 4,
    /*
     A directory or file could not be created or written.
     */
    BT_IO = 5,
    /*
     The session ended, but its trace lacks records.
     */
    BT_INCOMPLETE = 6,
    /*
     A fault of this library: please report it.
     */
    BT_INTERNAL = 7,
} bt_status;

/*
 The type of a tensor's elements.
 */
typedef enum bt_dtype {
    /*
     IEEE single precision.
     */
    BT_F32 = 0,
    /*
     IEEE half precision.
     */
    BT_F16 = 1,
    /*
     bfloat16.
     */
    BT_BF16 = 2,
    /*
     IEEE double precision.
     */
    BT_F64 = 3,
    /*
     8-bit floats with 4 exponent bits, without infinities: PyTorch's `float8_e4m3fn`.
     */
    BT_F8E4M3 = 4,
    /*
     8-bit floats with 5 exponent bits: PyTorch's `float8_e5m2`.
     */
    BT_F8E5M2 = 5,
    /*
     Unsigned 8-bit integers.
     */
    BT_U8 = 6,
    /*
     Signed 16-bit integers.
     */
    BT_I16 = 7,
    /*
     Unsigned 32-bit integers.
     */
    BT_U32 = 8,
    /*
     Signed 32-bit integers.
     */
    BT_I32 = 9,
    /*
     Signed 64-bit integers.
     */
    BT_I64 = 10,
} bt_dtype;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Describes the last failure on this thread; an empty text if there was none. The text is valid until the next call
 of a function of this library on the same thread.
 */
const char *bt_last_error(void);

/*
 The version of this library, such as "0.1.0".
 */
const char *bt_version(void);

/*
 Enters a scope of this thread: records made in it have this step and layer. A negative number leaves the step or
 the layer of the scope around it as it is. Each call needs one `bt_scope_leave`.

 `seq` is 0 for the prefill, then 1, 2, ... for the decode steps; `layer` counts from 0.
 */
enum bt_status bt_scope_enter(int64_t seq, int64_t layer);

/*
 Enters a scope of this thread: records made in it are computed for the tokens at the positions `start` to `end - 1`
 of the sequence. With them a prefill can be compared with single steps. If a number is negative or `end` is less than
 `start`, the result is `BT_INVALID`, and no scope is entered. Each other call needs one `bt_scope_leave`.
 */
enum bt_status bt_scope_enter_tokens(int64_t start, int64_t end);

/*
 Enters a scope of this thread: records made in it belong to this request, which tells prompts apart that a server
 computes. Needs one `bt_scope_leave`.
 */
enum bt_status bt_scope_enter_request(uint64_t request);

/*
 Leaves the innermost scope of this thread.
 */
enum bt_status bt_scope_leave(void);

/*
 1 if a record that this thread makes now may be kept, 0 if nothing records. The first call reads the environment:
 `BITNET_TRACE_DIR` and the variables beside it.
 */
int32_t bt_enabled(void);

/*
 1 if the filter may keep a record of this name and stage in the scope of this thread, 0 if not. It costs less than
 computing a tensor that nobody records. Either text may be NULL, as in `bt_record`.

 # Safety

 `name` and `stage` are NULL or texts that end with a zero byte.
 */
int32_t bt_wants(const char *name, const char *stage);

/*
 Starts a session that records into a directory, whatever the environment says. `filter`, `format` and `capture` have
 the syntax of the environment variables; NULL stands for the default. Returns a handle, or 0 if it cannot start:
 see `bt_last_error`.

 # Safety

 Each argument is NULL or a text that ends with a zero byte.
 */
uint64_t bt_session_start(const char *directory, const char *filter, const char *format, const char *capture);

/*
 Makes this thread record into the session, until `bt_session_leave`.
 */
enum bt_status bt_session_enter(uint64_t session);

/*
 Leaves the session that this thread entered last.
 */
enum bt_status bt_session_leave(void);

/*
 Ends a session and closes its files. Threads that are still in it record nothing from now on. Returns
 `BT_INCOMPLETE` if records were lost: `bt_last_error` lists how many and why, and so does `run.json`.
 */
enum bt_status bt_session_finish(uint64_t session);

/*
 Puts a fact about the run into `run.json` at once: the prompt, the digest of the checkpoint.

 # Safety

 `key` and `value` are NULL or texts that end with a zero byte.
 */
enum bt_status bt_annotate(const char *key, const char *value);

/*
 As `bt_annotate`, with a value in JSON: a number, or a list such as the ids of the prompt's tokens, `[1, 17, 200]`.
 `bitnet-trace sweep` compares the lists `prompt_tokens` and `generated_tokens` of two runs.

 # Safety

 `key` and `json` are NULL or texts that end with a zero byte.
 */
enum bt_status bt_annotate_json(const char *key, const char *json);

/*
 Makes everything recorded so far readable by other processes. A process that ends cleanly need not call it.
 */
enum bt_status bt_flush(void);

/*
 Records a tensor in the scope of this thread. While nothing records it returns at once.

 `stage` is the fine name of the computation (`q_proj`), by which two traces are aligned. With `stage` and without
 `name`, the record's name is made of step, layer and stage. With `name` alone, the name is kept as it is given
 (`Qcur-3`), and a map of names can give it a stage. One of the two is needed.

 `dtype` is a `bt_dtype`. `dims` are `n_dims` numbers, the slowest dimension first; `strides` are the distances
 between neighbours in each dimension, in elements, or NULL for a tensor in row-major order without gaps. A stride of
 0 repeats an element. `data` is the first element; the tensor is read before the function returns.

 A tensor that cannot be recorded is counted as lost in `run.json`, with one count and one warning for each argument
 that was refused and for each other cause.

 # Safety

 `name` and `stage` are NULL or texts that end with a zero byte. `dims` and `strides` are NULL or `n_dims` numbers.
 `data` is NULL or points to memory that holds every element that `dims` and `strides` describe.
 */
enum bt_status bt_record(const char *name,
                         const void *data,
                         int32_t dtype,
                         int32_t n_dims,
                         const int64_t *dims,
                         const int64_t *strides,
                         const char *stage);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* BITNET_TRACE_H */
