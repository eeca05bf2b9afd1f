/* What tests/programs.rs runs, compiled as C and as C++. */
#include "bitnet_trace.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "line %d: expected %s; the last error is: %s\n", __LINE__, #condition, bt_last_error());     \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static void read_exactly(void *to, size_t size) {
    if (size > 0 && fread(to, 1, size, stdin) != size) {
        fprintf(stderr, "the input ends too early\n");
        exit(1);
    }
}

/* Records what standard input describes: dtype, dimensions, offset, bytes of an element, size of the storage, whether
 * there are strides, the name's length; dimensions, strides, name, storage. */
static void record_all(void) {
    int64_t head[7];
    while (fread(head, 1, sizeof head, stdin) == sizeof head) {
        int64_t dims[16];
        int64_t strides[16];
        char name[256] = {0};
        size_t rank = (size_t)head[1];
        size_t size = (size_t)head[4];
        char *storage = (char *)malloc(size + 1);
        CHECK(storage != NULL && rank <= 16 && head[6] < 256);
        read_exactly(dims, rank * sizeof dims[0]);
        if (head[5]) {
            read_exactly(strides, rank * sizeof strides[0]);
        }
        read_exactly(name, (size_t)head[6]);
        read_exactly(storage, size);
        const char *first = storage + head[2] * head[3];
        CHECK(bt_record(name, first, (int32_t)head[0], (int32_t)rank, dims, head[5] ? strides : NULL, NULL) == BT_OK);
        free(storage);
    }
}

static void *in_thread(void *argument) {
    const uint64_t session = *(const uint64_t *)argument;
    const float data[2] = {1.0f, 2.0f};
    const int64_t dims[1] = {2};
    CHECK(!bt_enabled());
    CHECK(bt_session_enter(session) == BT_OK);
    CHECK(bt_enabled());
    CHECK(bt_record(NULL, data, BT_F32, 1, dims, NULL, "in_thread") == BT_OK);
    CHECK(bt_session_leave() == BT_OK);
    return NULL;
}

/* Two sessions, scopes, a thread. */
static void sessions(const char *directory, const char *other) {
    const float data[6] = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f};
    const int64_t dims[2] = {2, 3};
    const int64_t turned[2] = {3, 2};
    const int64_t strides[2] = {1, 3};
    pthread_t thread;
    uint64_t session = bt_session_start(directory, "stage!=unwanted", "jsonl", NULL);
    uint64_t second = bt_session_start(other, NULL, NULL, "none");
    CHECK(session != 0 && second != 0 && session != second);
    CHECK(!bt_enabled());
    CHECK(bt_session_enter(session) == BT_OK);
    CHECK(bt_annotate("prompt", "1+1=") == BT_OK);
    CHECK(bt_annotate_json("prompt_tokens", "[1, 17, 200]") == BT_OK);
    CHECK(bt_scope_enter(0, -1) == BT_OK);
    CHECK(bt_scope_enter(-1, 3) == BT_OK);
    CHECK(bt_wants(NULL, "q_proj") && !bt_wants(NULL, "unwanted") && bt_wants("Qcur-3", NULL));
    CHECK(bt_record(NULL, data, BT_F32, 2, dims, NULL, "q_proj") == BT_OK);
    CHECK(bt_record(NULL, data, BT_F32, 2, turned, strides, "q_turned") == BT_OK);
    CHECK(bt_record(NULL, data, BT_F32, 2, dims, NULL, "unwanted") == BT_OK);
    CHECK(bt_session_leave() == BT_NOT_INNERMOST);
    CHECK(strstr(bt_last_error(), "bt_scope_leave") != NULL);
    CHECK(bt_scope_leave() == BT_OK);
    CHECK(bt_scope_enter_tokens(5, 7) == BT_OK && bt_scope_enter_request(9) == BT_OK);
    CHECK(bt_scope_enter_tokens(-1, 2) == BT_INVALID && bt_scope_enter_tokens(2, 1) == BT_INVALID);
    CHECK(bt_record(NULL, data, BT_F32, 2, dims, NULL, "logits") == BT_OK);
    CHECK(bt_scope_leave() == BT_OK && bt_scope_leave() == BT_OK);
    CHECK(bt_session_enter(second) == BT_OK);
    CHECK(bt_scope_leave() == BT_NOT_INNERMOST);
    CHECK(bt_record("Qcur-0", data, BT_F32, 2, dims, NULL, NULL) == BT_OK);
    CHECK(bt_session_leave() == BT_OK);
    CHECK(bt_scope_leave() == BT_OK);
    CHECK(bt_scope_leave() == BT_NOT_INNERMOST);
    CHECK(bt_session_leave() == BT_OK);
    CHECK(pthread_create(&thread, NULL, in_thread, &session) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(bt_flush() == BT_OK);
    CHECK(bt_session_finish(session) == BT_OK);
    CHECK(bt_session_finish(session) == BT_NO_SESSION);
    CHECK(bt_session_enter(session) == BT_NO_SESSION);
    CHECK(bt_session_finish(second) == BT_OK);
}

/* Nonsense: each call returns an error, and the program goes on. */
static void nonsense(const char *directory) {
    const float data[4] = {1.0f, 2.0f, 3.0f, 4.0f};
    const int64_t dims[2] = {2, 2};
    const int64_t negative[2] = {-2, 2};
    const int64_t huge[2] = {INT64_MAX, INT64_MAX};
    const int64_t far_away[2] = {INT64_MAX / 2, 1};
    const int64_t none[2] = {0, 2};
    const char *not_utf8 = "\xff\xfe";
    char unaligned[sizeof data + 1];
    uint64_t session;
    CHECK(bt_session_start(NULL, NULL, NULL, NULL) == 0);
    CHECK(bt_session_start("", NULL, NULL, NULL) == 0);
    CHECK(bt_session_start(directory, "no_such_key=1", NULL, NULL) == 0);
    CHECK(strstr(bt_last_error(), "no_such_key") != NULL);
    CHECK(bt_session_start(directory, NULL, "xml", NULL) == 0);
    CHECK(bt_session_start(directory, NULL, NULL, "everything") == 0);
    CHECK(bt_session_start("/dev/null/no/directory", NULL, NULL, NULL) == 0);
    CHECK(bt_session_enter(0) == BT_NO_SESSION && bt_session_enter(UINT64_MAX) == BT_NO_SESSION);
    CHECK(bt_session_finish(0) == BT_NO_SESSION && bt_session_leave() == BT_NOT_INNERMOST);
    /* Nothing records: nothing is looked at. */
    CHECK(bt_record(NULL, NULL, 99, -1, NULL, NULL, NULL) == BT_OK);
    session = bt_session_start(directory, NULL, NULL, NULL);
    CHECK(session != 0 && bt_session_enter(session) == BT_OK);
    CHECK(bt_session_start(directory, NULL, NULL, NULL) == 0);
    CHECK(bt_record(NULL, data, BT_F32, 2, dims, NULL, NULL) == BT_NULL);
    CHECK(bt_record("x", NULL, BT_F32, 2, dims, NULL, NULL) == BT_NULL);
    CHECK(bt_record("x", data, BT_F32, 2, NULL, NULL, NULL) == BT_NULL);
    CHECK(bt_record("x", data, 99, 2, dims, NULL, NULL) == BT_INVALID);
    CHECK(bt_record("x", data, -1, 2, dims, NULL, NULL) == BT_INVALID);
    CHECK(bt_record("x", data, BT_F32, -1, dims, NULL, NULL) == BT_INVALID);
    CHECK(bt_record("x", data, BT_F32, 17, dims, NULL, NULL) == BT_INVALID);
    CHECK(bt_record("x", data, BT_F32, 2, negative, NULL, NULL) == BT_INVALID);
    CHECK(bt_record("x", data, BT_F32, 2, huge, NULL, NULL) == BT_INVALID);
    CHECK(bt_record("x", data, BT_F32, 2, dims, negative, NULL) == BT_INVALID);
    CHECK(bt_record("x", data, BT_F32, 2, dims, huge, NULL) == BT_INVALID);
    CHECK(bt_record("x", data, BT_F64, 2, dims, far_away, NULL) == BT_INVALID);
    CHECK(bt_record(not_utf8, data, BT_F32, 2, dims, NULL, NULL) == BT_INVALID);
    CHECK(bt_record("x", data, BT_F32, 2, (const int64_t *)(const void *)((const char *)dims + 1), NULL, NULL) == BT_INVALID);
    CHECK(bt_annotate(NULL, "x") == BT_NULL && bt_annotate("x", NULL) == BT_NULL && bt_annotate("x", not_utf8) == BT_INVALID);
    CHECK(bt_annotate_json(NULL, "1") == BT_NULL && bt_annotate_json("x", NULL) == BT_NULL);
    CHECK(bt_annotate_json("x", "[1,") == BT_INVALID && bt_annotate_json("x", "") == BT_INVALID);
    /* What looks odd and is none. */
    memcpy(unaligned + 1, data, sizeof data);
    CHECK(bt_record("unaligned", unaligned + 1, BT_F32, 2, dims, NULL, NULL) == BT_OK);
    CHECK(bt_record("empty", NULL, BT_F32, 2, none, NULL, NULL) == BT_OK);
    CHECK(bt_record("scalar", data, BT_F32, 0, NULL, NULL, NULL) == BT_OK);
    CHECK(bt_record("aligned", data, BT_F32, 2, dims, NULL, NULL) == BT_OK);
    CHECK(bt_session_finish(session) == BT_INCOMPLETE);
    CHECK(strstr(bt_last_error(), "14 records lost, 4 kept") != NULL);
    /* The session is finished, but the thread is still in it. */
    CHECK(!bt_enabled() && bt_record("late", data, BT_F32, 2, dims, NULL, NULL) == BT_OK);
    CHECK(bt_session_leave() == BT_OK);
}

/* A child that exits while the parent records, and a parent that ends without its exit hooks. */
static void forked(void) {
    const float data[1] = {1.0f};
    const int64_t dims[1] = {1};
    int status = 0;
    pid_t child;
    CHECK(bt_record("before", data, BT_F32, 1, dims, NULL, NULL) == BT_OK);
    child = fork();
    if (child == 0) {
        exit(0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    CHECK(bt_record("after", data, BT_F32, 1, dims, NULL, NULL) == BT_OK);
    _exit(0);
}

int main(int argc, char **argv) {
    CHECK(bt_last_error()[0] == '\0' && bt_version()[0] != '\0');
    if (argc == 2 && strcmp(argv[1], "record") == 0) {
        record_all();
    } else if (argc == 2 && strcmp(argv[1], "forked") == 0) {
        forked();
    } else if (argc == 4 && strcmp(argv[1], "sessions") == 0) {
        sessions(argv[2], argv[3]);
    } else if (argc == 3 && strcmp(argv[1], "nonsense") == 0) {
        nonsense(argv[2]);
    } else {
        fprintf(stderr, "usage: program record|forked|sessions DIR DIR|nonsense DIR\n");
        return 2;
    }
    return 0;
}
