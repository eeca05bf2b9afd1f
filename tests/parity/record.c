/* Records the tensors that standard input describes, through the C ABI; equal.py describes them. */
#include "bitnet_trace.h"

#include <stdio.h>
#include <stdlib.h>

#define MOST_DIMENSIONS 16
#define LONGEST_TEXT 512

/* What precedes the dimensions, strides, texts and bytes of a tensor. */
struct head {
    int64_t dtype;
    int64_t rank;
    int64_t offset;
    int64_t has_strides;
    int64_t seq;
    int64_t layer;
    int64_t name_size;
    int64_t stage_size;
    int64_t size;
};

static void expect(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "%s; the last error is: %s\n", what, bt_last_error());
        exit(1);
    }
}

static void read_exactly(void *to, int64_t size) {
    expect(size == 0 || fread(to, 1, (size_t)size, stdin) == (size_t)size, "the input ends too early");
}

int main(void) {
    struct head head;
    while (fread(&head, 1, sizeof head, stdin) == sizeof head) {
        int64_t dims[MOST_DIMENSIONS];
        int64_t strides[MOST_DIMENSIONS];
        char name[LONGEST_TEXT] = {0};
        char stage[LONGEST_TEXT] = {0};
        char *bytes = malloc((size_t)head.size + 1);
        expect(bytes != NULL && head.rank <= MOST_DIMENSIONS, "a tensor is too large");
        expect(head.name_size < LONGEST_TEXT && head.stage_size < LONGEST_TEXT, "a text is too long");
        read_exactly(dims, head.rank * (int64_t)sizeof dims[0]);
        read_exactly(strides, head.has_strides ? head.rank * (int64_t)sizeof strides[0] : 0);
        read_exactly(name, head.name_size);
        read_exactly(stage, head.stage_size);
        read_exactly(bytes, head.size);
        expect(bt_scope_enter(head.seq, head.layer) == BT_OK, "no scope");
        expect(bt_record(head.name_size > 0 ? name : NULL, bytes + head.offset, (int32_t)head.dtype, (int32_t)head.rank,
                         dims, head.has_strides ? strides : NULL, stage) == BT_OK,
               "a tensor was not recorded");
        expect(bt_scope_leave() == BT_OK, "the scope was left");
        free(bytes);
    }
    return 0;
}
