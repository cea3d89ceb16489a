/* The C API: a file of pages that are overwritten without a journal, two of them at a time.
 *
 *     cc -I. examples/pages.c bazel-bin/integrations/c/libuntorn.so.1 -o pages
 *     pages app.untorn 1000
 *
 * Each transaction moves an amount from one page to the other. After a crash at any moment the sum is as before. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "untorn/c.h"

enum { PAGE_BYTES = 4096, TOTAL = 1000000 };

struct page {
  int64_t amount;
  int64_t transfers; /* that were made so far */
  char rest[PAGE_BYTES - 2 * sizeof(int64_t)];
};

static void check(untorn_code code, const char* what) {
  if (code == UNTORN_OK) return;
  fprintf(stderr, "pages: %s: %s\n", what, untorn_message());
  exit(1);
}

static void read_pages(const untorn_object* object, struct page pages[2]) {
  size_t got = 0;
  memset(pages, 0, 2 * sizeof(pages[0]));
  check(untorn_object_read(object, 0, pages, 2 * sizeof(pages[0]), 0, &got), "read");
  if (pages[0].amount + pages[1].amount == TOTAL) return;
  fprintf(stderr, "pages: the sum is %" PRId64 "\n", pages[0].amount + pages[1].amount);
  exit(1);
}

int main(int argc, char** argv) {
  untorn_create_options create = UNTORN_CREATE_OPTIONS_INIT;
  untorn_store* store = NULL;
  untorn_object* object = NULL;
  untorn_code code;
  struct page pages[2];
  long i, transfers;

  if (argc != 3) {
    fprintf(stderr, "usage: pages STORE TRANSFERS\n");
    return 2;
  }
  transfers = strtol(argv[2], NULL, 10);
  create.size_bytes = 64 << 20;
  code = untorn_store_create(argv[1], &create);
  if (code != UNTORN_ALREADY_EXISTS) check(code, "create");
  check(untorn_store_open(argv[1], NULL, &store), "open");

  code = untorn_object_open(store, "pages", &object);
  if (code == UNTORN_NOT_FOUND) {
    /* The object and its content: both or, after a crash, neither. */
    untorn_transaction* made = NULL;
    memset(pages, 0, sizeof(pages));
    pages[0].amount = TOTAL;
    check(untorn_transaction_begin(store, &made), "begin");
    check(untorn_transaction_create(made, "pages", &object), "create");
    check(untorn_transaction_write(made, object, 0, pages, sizeof(pages)), "write");
    code = untorn_transaction_commit(made, UNTORN_SYNC);
    untorn_transaction_free(made);
  }
  check(code, "pages");
  read_pages(object, pages);
  printf("%" PRId64 " transfers were made before\n", pages[0].transfers);

  for (i = 0; i < transfers; ++i) {
    untorn_transaction* transfer = NULL;
    read_pages(object, pages);
    pages[0].amount -= i;
    pages[1].amount += i;
    pages[1].transfers = ++pages[0].transfers;
    check(untorn_transaction_begin(store, &transfer), "begin");
    check(untorn_transaction_write(transfer, object, 0, &pages[0], PAGE_BYTES), "write");
    check(untorn_transaction_write(transfer, object, PAGE_BYTES, &pages[1], PAGE_BYTES), "write");
    check(untorn_transaction_commit(transfer, UNTORN_SYNC), "commit");
    untorn_transaction_free(transfer);
    if (i % 100 == 0) printf("%" PRId64 " transfers are durable\n", pages[0].transfers), fflush(stdout);
  }
  read_pages(object, pages);
  untorn_object_free(object);
  check(untorn_store_close(store), "close");
  printf("the sum is right\n");
  return 0;
}
