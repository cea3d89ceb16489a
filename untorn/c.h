/* The C API of untorn, with the promises of untorn/store.h. Left out are choices of what a dump shows, and the counts of
 * fsck and repair that nobody acts on.
 *
 *     untorn_store* store;
 *     if (untorn_store_open("pages.untorn", NULL, &store) != UNTORN_OK) return puts(untorn_message());
 *     untorn_object* pages;
 *     untorn_object_create(store, "pages", UNTORN_BUFFERED, &pages);
 *     untorn_object_write(pages, 0, page, sizeof(page), UNTORN_SYNC);
 *
 * Errors. Every function that can fail returns UNTORN_OK or the code of an error. untorn_message() has the object, the
 * range and the cause, in words. untorn/store.h says which errors each function has. A pointer that is NULL and must not be
 * is UNTORN_INVALID_ARGUMENT. Where there is no memory the code is UNTORN_RESOURCE_EXHAUSTED.
 *
 * Ownership. What a function returns through a pointer belongs to the caller, who gives it back by the function of the
 * same prefix: untorn_store_close, untorn_object_free, untorn_transaction_free, untorn_free. All of these accept NULL.
 * Objects and transactions must be given back before their store is closed.
 *
 * Names of objects end at their NUL byte. Sizes and offsets are in bytes.
 *
 * Threading: as in untorn/store.h. Any thread may call any function at any time, with two exceptions. What gives a handle
 * back must be the last call with the handle. One thread at a time may use a transaction.
 *
 * ABI: the struct_size of a struct is what the program was compiled with. Later versions add members at the end, and
 * 0 stands for the default of each member. A member that is not 0, and that the library does not know, is
 * UNTORN_UNIMPLEMENTED. Unknown flags are UNTORN_INVALID_ARGUMENT. Symbols have the version UNTORN_1. */
#ifndef UNTORN_C_H_
#define UNTORN_C_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct untorn_store untorn_store;
typedef struct untorn_object untorn_object;
typedef struct untorn_transaction untorn_transaction;

/* The numbers are stable. */
typedef enum untorn_code {
  UNTORN_OK = 0,
  UNTORN_CANCELLED = 1,
  UNTORN_UNKNOWN = 2, /* an error of the operating system that has no code here */
  UNTORN_INVALID_ARGUMENT = 3,
  UNTORN_NOT_FOUND = 5,
  UNTORN_ALREADY_EXISTS = 6,
  UNTORN_PERMISSION_DENIED = 7,
  UNTORN_RESOURCE_EXHAUSTED = 8,
  UNTORN_FAILED_PRECONDITION = 9,
  UNTORN_ABORTED = 10,
  UNTORN_OUT_OF_RANGE = 11,
  UNTORN_UNIMPLEMENTED = 12,
  UNTORN_INTERNAL = 13,
  UNTORN_UNAVAILABLE = 14,
  UNTORN_DATA_LOSS = 15
} untorn_code;

/* The version of the library, as "1.2.3". */
const char* untorn_version(void);
/* The message of the last call of this thread that failed. Valid until the thread calls the library again. "" if no call
 * has failed. */
const char* untorn_message(void);
/* "NOT_FOUND" for UNTORN_NOT_FOUND; "" for a number that is no code. */
const char* untorn_code_name(int code);
/* Gives back a string that the library has returned. */
void untorn_free(char* string);

/* What the functions take as an int. */
typedef enum untorn_durability {
  UNTORN_BUFFERED = 0, /* the call returns when the change is accepted */
  UNTORN_SYNC = 1      /* the call returns when the change is durable */
} untorn_durability;

typedef enum untorn_policy {
  UNTORN_AUTOMATIC = 0,
  UNTORN_ALWAYS_COW = 1,
  UNTORN_HARDWARE_ONLY = 2
} untorn_policy;

typedef enum untorn_log_level {
  UNTORN_LOG_INFO = 0,
  UNTORN_LOG_WARNING = 1,
  UNTORN_LOG_ERROR = 2
} untorn_log_level;
/* Called from any thread. `message` is valid during the call. */
typedef void (*untorn_log_fn)(void* context, untorn_log_level level, const char* message);
/* Called now and then by the thread of the call. Resize, trim and scrub end with UNTORN_CANCELLED if the function returns 0;
 * create, fsck and repair go on. */
typedef int (*untorn_progress_fn)(void* context, uint64_t done, uint64_t total);

/* ---- Stores ---- */

typedef struct untorn_create_options {
  size_t struct_size;
  uint64_t size_bytes; /* the most that the store may take; 0: as much as there is */
  int force;           /* replaces a file, or overwrites a device that is in use */
  int prepare;         /* writes zeros to all of a file now */
  untorn_progress_fn progress;
  void* progress_context;
} untorn_create_options;
#define UNTORN_CREATE_OPTIONS_INIT \
  { sizeof(untorn_create_options), 0, 0, 0, NULL, NULL }

typedef struct untorn_open_options {
  size_t struct_size;
  int read_only;
  int policy;                        /* an untorn_policy */
  int no_io_uring;                   /* system calls instead */
  uint64_t stated_atomic_unit_bytes; /* the operator's word; 0: the kernel's report */
  uint64_t cache_bytes;              /* at least 4 MiB; 0: as fits the machine */
  untorn_log_fn log;
  void* log_context;
} untorn_open_options;
#define UNTORN_OPEN_OPTIONS_INIT \
  { sizeof(untorn_open_options), 0, UNTORN_AUTOMATIC, 0, 0, 0, NULL, NULL }

/* `options` may be NULL. */
untorn_code untorn_store_create(const char* path, const untorn_create_options* options);
untorn_code untorn_store_open(const char* path, const untorn_open_options* options, untorn_store** store);
/* Makes everything durable, and releases the store. Also gives back a store that has failed, and returns the failure. */
untorn_code untorn_store_close(untorn_store* store);

untorn_code untorn_store_rename(untorn_store* store, const char* from, const char* to, int durability);
untorn_code untorn_store_remove(untorn_store* store, const char* name, int durability);

/* Calls `each` for the objects whose names come behind `after`, in the byte order of names, until `each` returns 0. `after`
 * may be NULL. `name` is valid during the call. `each` may call the library. */
typedef int (*untorn_list_fn)(void* context, const char* name, uint64_t id, uint64_t size_bytes);
untorn_code untorn_store_list(untorn_store* store, const char* after, untorn_list_fn each, void* context);

untorn_code untorn_store_barrier(untorn_store* store);
untorn_code untorn_store_sync(untorn_store* store);
untorn_code untorn_store_checkpoint(untorn_store* store);
/* Brings what is read up to date, in a store that was opened with read_only while another process had it open for writing.
 * As Store::Refresh of untorn/store.h. */
untorn_code untorn_store_refresh(untorn_store* store);

/* `progress` may be NULL. */
untorn_code untorn_store_resize(untorn_store* store, uint64_t size_bytes, untorn_progress_fn progress,
                                void* context);
/* Each of the pointers may be NULL. */
untorn_code untorn_store_trim(untorn_store* store, untorn_progress_fn progress, void* context,
                              uint64_t* before_bytes, uint64_t* after_bytes, uint64_t* moved_bytes);

/* A range that a scrub found damaged, valid during the call. */
typedef void (*untorn_damage_fn)(void* context, const char* object, uint64_t object_id, uint64_t offset,
                                 uint64_t length, const char* why);
typedef struct untorn_scrub_options {
  size_t struct_size;
  uint64_t bytes_per_second_max; /* 0: as fast as the device reads */
  untorn_progress_fn progress;
  untorn_damage_fn damage; /* called for the first 1000 ranges, when the scrub has ended */
  void* context;           /* of both */
} untorn_scrub_options;
#define UNTORN_SCRUB_OPTIONS_INIT \
  { sizeof(untorn_scrub_options), 0, NULL, NULL, NULL }
typedef struct untorn_scrub_result {
  size_t struct_size;
  uint64_t objects, bytes;
  uint64_t blocks_adopted;
  uint64_t damaged_total, damaged_bytes;
} untorn_scrub_result;
#define UNTORN_SCRUB_RESULT_INIT \
  { sizeof(untorn_scrub_result), 0, 0, 0, 0, 0 }
/* `options` may be NULL. UNTORN_OK does not say that nothing is damaged: result->damaged_total does. */
untorn_code untorn_store_scrub(untorn_store* store, const untorn_scrub_options* options,
                               untorn_scrub_result* result);

/* What `untorn info --json` and `untorn stats --json` tell of the store, as JSON. The names are those of StoreInfo and Stats
 * in untorn/options.h. Stats come as "state", "since_open", "change_sets_by_reason" and "latencies". */
untorn_code untorn_store_info_json(untorn_store* store, char** json);
untorn_code untorn_store_stats_json(untorn_store* store, char** json);
/* The same numbers in the text format of Prometheus (untorn/metrics.h), for a page of metrics. */
untorn_code untorn_store_metrics(untorn_store* store, char** text);

/* ---- Objects ---- */

untorn_code untorn_object_create(untorn_store* store, const char* name, int durability,
                                 untorn_object** object);
untorn_code untorn_object_open(untorn_store* store, const char* name, untorn_object** object);
void untorn_object_free(untorn_object* object);

uint64_t untorn_object_id(const untorn_object* object);
untorn_code untorn_object_name(const untorn_object* object, char** name);
untorn_code untorn_object_size(const untorn_object* object, uint64_t* size);

/* Flags of reads and writes, combined by |. A durability is a flag of a write. */
#define UNTORN_NOT_ATOMIC 2   /* each block of the write is an atomic write by itself */
#define UNTORN_BYPASS_CACHE 4 /* does not keep the data in the cache */

/* *got is how many bytes there were before the end of the object. `got` may be NULL. */
untorn_code untorn_object_read(const untorn_object* object, uint64_t offset, void* out, size_t length,
                               int flags, size_t* got);
untorn_code untorn_object_readv(const untorn_object* object, uint64_t offset, const struct iovec* out,
                                int count, int flags, size_t* got);
untorn_code untorn_object_write(const untorn_object* object, uint64_t offset, const void* data, size_t length,
                                int flags);
untorn_code untorn_object_writev(const untorn_object* object, uint64_t offset, const struct iovec* data,
                                 int count, int flags);

/* Called once, from a thread of the library or from within the call. `message` is valid during the call, and "" after
 * UNTORN_OK. `got` is 0 after a write. `done` may be NULL. */
typedef void (*untorn_done_fn)(void* context, untorn_code code, const char* message, size_t got);
/* Write_async copies the data before it returns. `out` must stay valid until `done` is called. */
void untorn_object_write_async(const untorn_object* object, uint64_t offset, const void* data, size_t length,
                               int flags, untorn_done_fn done, void* context);
void untorn_object_read_async(const untorn_object* object, uint64_t offset, void* out, size_t length,
                              int flags, untorn_done_fn done, void* context);

untorn_code untorn_object_truncate(const untorn_object* object, uint64_t size, int durability);
untorn_code untorn_object_punch_hole(const untorn_object* object, uint64_t offset, uint64_t length,
                                     int durability);
untorn_code untorn_object_preallocate(const untorn_object* object, uint64_t offset, uint64_t length);
untorn_code untorn_object_sync(const untorn_object* object);
untorn_code untorn_object_sync_range(const untorn_object* object, uint64_t offset, uint64_t length);

/* ---- Transactions ---- */

untorn_code untorn_transaction_begin(untorn_store* store, untorn_transaction** transaction);
/* Abandons the transaction unless it is committed. */
void untorn_transaction_free(untorn_transaction* transaction);
untorn_code untorn_transaction_commit(untorn_transaction* transaction, int durability);
/* Takes over the changes of `other`, which is finished then, and still has to be given back. */
untorn_code untorn_transaction_absorb(untorn_transaction* transaction, untorn_transaction* other);

untorn_code untorn_transaction_create(untorn_transaction* transaction, const char* name,
                                      untorn_object** object);
untorn_code untorn_transaction_open(untorn_transaction* transaction, const char* name,
                                    untorn_object** object);
untorn_code untorn_transaction_rename(untorn_transaction* transaction, const char* from, const char* to);
untorn_code untorn_transaction_remove(untorn_transaction* transaction, const char* name);
untorn_code untorn_transaction_read(untorn_transaction* transaction, const untorn_object* object,
                                    uint64_t offset, void* out, size_t length, size_t* got);
untorn_code untorn_transaction_write(untorn_transaction* transaction, const untorn_object* object,
                                     uint64_t offset, const void* data, size_t length);
untorn_code untorn_transaction_truncate(untorn_transaction* transaction, const untorn_object* object,
                                        uint64_t size);
untorn_code untorn_transaction_punch_hole(untorn_transaction* transaction, const untorn_object* object,
                                          uint64_t offset, uint64_t length);
untorn_code untorn_transaction_size(untorn_transaction* transaction, const untorn_object* object,
                                    uint64_t* size);

/* ---- Stores that need not be fit to be opened ---- */

/* A finding of fsck, by its stable number (docs/fsck.md), or an action of a repair with number 0. Valid during the call. */
typedef void (*untorn_finding_fn)(void* context, int number, const char* name, const char* what);
typedef struct untorn_check_options {
  size_t struct_size;
  int data;    /* fsck: compares all data with its checksums, too */
  int dry_run; /* repair: only says what it would do */
  untorn_finding_fn finding;
  untorn_progress_fn progress; /* its result does not count */
  void* context;               /* of both */
} untorn_check_options;
#define UNTORN_CHECK_OPTIONS_INIT \
  { sizeof(untorn_check_options), 0, 0, NULL, NULL, NULL }
/* `options` may be NULL. UNTORN_OK does not say that the store is sound: *findings does. */
untorn_code untorn_fsck(const char* path, const untorn_check_options* options, uint64_t* findings);
/* Calls `finding` for what it found, and then for what it has done. *actions counts the latter, and *quarantined counts the
 * objects in quarantine. */
untorn_code untorn_repair(const char* path, const untorn_check_options* options, uint64_t* actions,
                          uint64_t* quarantined);
untorn_code untorn_dump_json(const char* path, char** json);

#ifdef __cplusplus
}
#endif

#endif /* UNTORN_C_H_ */
