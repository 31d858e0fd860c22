/*
 * Signs with a PKCS#11 token directly from C: what the token itself can do, as the
 * measure for what is built on top of it.
 *
 *   raw_token MODULE TOKEN_LABEL KEY THREADS SECONDS [PIN_FILE [MECHANISM]]
 *
 * KEY is the CKA_LABEL of a private key or its CKA_ID in hexadecimal, the label
 * tried first. The PIN is the first line of PIN_FILE, or of standard input.
 * MECHANISM is ecdsa (the default), rsa-pss-sha256, rsa-pkcs1-sha256 or eddsa.
 *
 * Every thread has a session of its own and signs different 32-octet digests until
 * SECONDS have passed; hashing is not part of the measure, but for EdDSA, which takes
 * the 32 octets as its message. Prints one JSON object. A latency is C_SignInit plus C_Sign. The CPU time is this
 * process's, so a token in another process (a TPM's daemon, p11-kit) is not in it.
 *
 * Exits with 64 for wrong arguments, with 1 for a failure.
 *
 * Build: gcc -O2 -Wall -Wextra -Werror -o raw_token raw_token.c -ldl -lpthread
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* From PKCS#11 2.40 (OASIS), in the layout of Unix: natural alignment. */

typedef unsigned long Ulong;
typedef Ulong Rv;

enum {
    CKR_OK = 0,
    CKU_USER = 1,
    CKF_OS_LOCKING_OK = 2,
    CKF_SERIAL_SESSION = 4,
    CKA_CLASS = 0,
    CKA_LABEL = 3,
    CKA_ID = 0x102,
    CKO_PRIVATE_KEY = 3,
    CKM_RSA_PKCS = 1,
    CKM_RSA_PKCS_PSS = 0xd,
    CKM_SHA256 = 0x250,
    CKM_ECDSA = 0x1041,
    CKM_EDDSA = 0x1057,
    CKG_MGF1_SHA256 = 2,
};

typedef struct {
    void *mutex_callbacks[4];
    Ulong flags;
    void *reserved;
} InitializeArguments;

typedef struct {
    unsigned char label[32]; /* padded with blanks */
    unsigned char manufacturer[32];
    unsigned char model[16];
    unsigned char serial[16];
    Ulong flags;
    Ulong counts[10];
    unsigned char versions[4];
    unsigned char time[16];
} TokenInfo;

typedef struct {
    Ulong type;
    void *value;
    Ulong length;
} Attribute;

typedef struct {
    Ulong mechanism;
    void *parameter;
    Ulong parameter_length;
} Mechanism;

typedef struct {
    Ulong hash, mask, salt_length;
} PssParameters;

typedef struct {
    unsigned char version[2];
    Rv (*initialize)(InitializeArguments *);
    Rv (*finalize)(void *);
    void *get_info, *get_function_list;
    Rv (*get_slot_list)(unsigned char token_present, Ulong *slots, Ulong *count);
    void *get_slot_info;
    Rv (*get_token_info)(Ulong slot, TokenInfo *);
    void *from_get_mechanism_list_to_set_pin[5];
    Rv (*open_session)(Ulong slot, Ulong flags, void *application, void *notify, Ulong *session);
    void *from_close_session_to_set_operation_state[5];
    Rv (*login)(Ulong session, Ulong user, const char *pin, Ulong length);
    void *from_logout_to_set_attribute_value[7];
    Rv (*find_objects_init)(Ulong session, Attribute *, Ulong count);
    Rv (*find_objects)(Ulong session, Ulong *objects, Ulong most, Ulong *count);
    Rv (*find_objects_final)(Ulong session);
    void *from_encrypt_init_to_digest_final[13];
    Rv (*sign_init)(Ulong session, Mechanism *, Ulong key);
    Rv (*sign)(Ulong session, const unsigned char *data, Ulong length, unsigned char *signature,
               Ulong *signature_length);
    /* more follow; none is used */
} Functions;

enum {
    DIGEST = 32,
    LONGEST_PREFIX = 19,
    LONGEST_SIGNATURE = 512, /* RSA-4096 */
    LONGEST_PIN = 256,
    MOST_SLOTS = 64,
    MOST_THREADS = 256,
};

typedef struct {
    const char *name;
    Mechanism mechanism;
    unsigned char prefix[LONGEST_PREFIX]; /* before the digest */
    size_t prefix_length;
} Way;

typedef struct {
    const char *module, *token, *key, *pin_file;
    unsigned threads;
    double seconds;
    const Way *way;
} Options;

typedef struct {
    unsigned number;
    Ulong session, key;
    const Way *way;
    double seconds;
    pthread_barrier_t *start;
    uint32_t *latencies_ns;
    size_t count, capacity;
    uint64_t ended_ns;
} Signer;

typedef struct {
    size_t signatures;
    double seconds, cpu_seconds;
    uint32_t p50_ns, p99_ns;
} Result;

static Functions *token;

static PssParameters pss = {CKM_SHA256, CKG_MGF1_SHA256, DIGEST};
static const Way ways[] = {
    {.name = "ecdsa", .mechanism = {.mechanism = CKM_ECDSA}},
    {.name = "rsa-pss-sha256", .mechanism = {CKM_RSA_PKCS_PSS, &pss, sizeof pss}},
    {
        /* DER of DigestInfo up to the digest (RFC 8017 section 9.2, note 1). */
        .name = "rsa-pkcs1-sha256",
        .mechanism = {.mechanism = CKM_RSA_PKCS},
        .prefix = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04,
                   0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
        .prefix_length = 19,
    },
    {.name = "eddsa", .mechanism = {.mechanism = CKM_EDDSA}},
};

static Options parse(int argc, char **argv);
static void load(const char *module);
static Ulong find_slot(const char *label);
static void log_in(Ulong session, const char *pin_file);
static Ulong open_session(Ulong slot);
static Ulong find_key(Ulong session, const char *label_or_id);
static Result measure(Signer *signers, unsigned count);
static void print(const Result *result, unsigned threads);

int main(int argc, char **argv)
{
    static Signer signers[MOST_THREADS];
    Options options = parse(argc, argv);

    load(options.module);
    Ulong slot = find_slot(options.token);
    for (unsigned i = 0; i < options.threads; i++) {
        Ulong session = open_session(slot);
        if (i == 0)
            log_in(session, options.pin_file); /* holds for all sessions with the token */
        Ulong key = find_key(session, options.key);
        signers[i] = (Signer){.number = i,
                              .session = session,
                              .key = key,
                              .way = options.way,
                              .seconds = options.seconds};
    }
    Result result = measure(signers, options.threads);
    print(&result, options.threads);
    token->finalize(NULL);
    return 0;
}

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("raw_token: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    _exit(1); /* other threads may be inside the module: its destructors must not run */
}

static void check(Rv rv, const char *function)
{
    if (rv != CKR_OK)
        fail("%s: CKR 0x%lx", function, rv);
}

/* The way of that name, the first one for no name, or NULL. */
static const Way *find_way(const char *name)
{
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (!name || !strcmp(ways[i].name, name))
            return &ways[i];
    return NULL;
}

static Options parse(int argc, char **argv)
{
    if (argc >= 6 && argc <= 8) {
        const Way *way = find_way(argc == 8 ? argv[7] : NULL);
        char *threads_end, *seconds_end;
        unsigned long threads = strtoul(argv[4], &threads_end, 10);
        double seconds = strtod(argv[5], &seconds_end);
        bool numbers = !*threads_end && !*seconds_end;
        if (way && numbers && threads >= 1 && threads <= MOST_THREADS && seconds > 0)
            return (Options){argv[1], argv[2], argv[3], argv[6], (unsigned)threads, seconds, way};
    }
    fprintf(stderr,
            "usage: raw_token MODULE TOKEN_LABEL KEY_LABEL_OR_ID_HEX THREADS SECONDS "
            "[PIN_FILE [MECHANISM]]\n"
            "1 to %d threads; without PIN_FILE the PIN is read from standard input\n"
            "MECHANISM: ecdsa (the default), rsa-pss-sha256, rsa-pkcs1-sha256 or eddsa\n",
            MOST_THREADS);
    exit(64);
}

static void load(const char *module)
{
    void *library = dlopen(module, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        fail("%s", dlerror());
    Rv (*function_list)(Functions **);
    *(void **)&function_list = dlsym(library, "C_GetFunctionList");
    if (!function_list)
        fail("%s is no PKCS#11 module: it has no C_GetFunctionList", module);
    check(function_list(&token), "C_GetFunctionList");

    /* Without this flag a module may do without locks, and threads crash it. */
    InitializeArguments arguments = {.flags = CKF_OS_LOCKING_OK};
    check(token->initialize(&arguments), "C_Initialize");
}

static bool has_label(const TokenInfo *info, const char *label)
{
    size_t length = strlen(label);
    if (length > sizeof info->label || memcmp(info->label, label, length) != 0)
        return false;
    for (size_t i = length; i < sizeof info->label; i++)
        if (info->label[i] != ' ')
            return false;
    return true;
}

static Ulong find_slot(const char *label)
{
    Ulong slots[MOST_SLOTS], count = MOST_SLOTS;
    check(token->get_slot_list(1, slots, &count), "C_GetSlotList");
    for (Ulong i = 0; i < count; i++) {
        TokenInfo info;
        if (token->get_token_info(slots[i], &info) == CKR_OK && has_label(&info, label))
            return slots[i];
    }
    fail("no token \"%s\" in %lu slots", label, count);
    return 0;
}

static Ulong open_session(Ulong slot)
{
    Ulong session;
    check(token->open_session(slot, CKF_SERIAL_SESSION, NULL, NULL, &session), "C_OpenSession");
    return session;
}

static void log_in(Ulong session, const char *pin_file)
{
    char pin[LONGEST_PIN];
    FILE *stream = pin_file ? fopen(pin_file, "r") : stdin;
    if (!stream || !fgets(pin, sizeof pin, stream))
        fail("no PIN in %s", pin_file ? pin_file : "standard input");
    if (pin_file)
        fclose(stream);
    Rv rv = token->login(session, CKU_USER, pin, strcspn(pin, "\r\n"));
    explicit_bzero(pin, sizeof pin);
    check(rv, "C_Login");
}

/* The number of private keys with the attribute; the first of them in `key`. */
static Ulong find_by(Ulong session, Ulong type, void *value, size_t length, Ulong *key)
{
    Ulong private_key = CKO_PRIVATE_KEY, found[2], count;
    Attribute wanted[] = {
        {CKA_CLASS, &private_key, sizeof private_key},
        {type, value, length},
    };
    check(token->find_objects_init(session, wanted, 2), "C_FindObjectsInit");
    check(token->find_objects(session, found, 2, &count), "C_FindObjects");
    check(token->find_objects_final(session), "C_FindObjectsFinal");
    if (count)
        *key = found[0];
    return count;
}

/* The number of octets in `hexadecimal`, or 0 if that is not what it is. */
static size_t decode(const char *hexadecimal, unsigned char *octets, size_t most)
{
    size_t digits = strlen(hexadecimal);
    if (digits % 2 || digits / 2 > most || strspn(hexadecimal, "0123456789abcdefABCDEF") != digits)
        return 0;
    for (size_t i = 0; i < digits / 2; i++)
        sscanf(hexadecimal + 2 * i, "%2hhx", &octets[i]);
    return digits / 2;
}

static Ulong find_key(Ulong session, const char *label_or_id)
{
    unsigned char id[128];
    size_t id_length = decode(label_or_id, id, sizeof id);
    Ulong key = 0;
    Ulong count = find_by(session, CKA_LABEL, (void *)label_or_id, strlen(label_or_id), &key);
    if (!count && id_length)
        count = find_by(session, CKA_ID, id, id_length, &key);
    if (count != 1)
        fail("%s private key has the label or id \"%s\"", count ? "more than one" : "no",
             label_or_id);
    return key;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void sign_once(const Signer *signer, uint64_t counter)
{
    /* A signature costs the same whatever the digest; only a repeated one could be cached. */
    unsigned char input[LONGEST_PREFIX + DIGEST], signature[LONGEST_SIGNATURE];
    const Way *way = signer->way;
    unsigned char *digest = input + way->prefix_length;
    Ulong length = sizeof signature;
    Mechanism mechanism = way->mechanism;

    memcpy(input, way->prefix, way->prefix_length);
    memset(digest, 0x6d, DIGEST);
    memcpy(digest + 8, &signer->number, sizeof signer->number);
    memcpy(digest + 16, &counter, sizeof counter);
    check(token->sign_init(signer->session, &mechanism, signer->key), "C_SignInit");
    check(token->sign(signer->session, input, way->prefix_length + DIGEST, signature, &length),
          "C_Sign");
}

static void record(Signer *signer, uint64_t latency_ns)
{
    if (signer->count == signer->capacity) {
        signer->capacity = signer->capacity ? 2 * signer->capacity : 1 << 16;
        signer->latencies_ns =
            realloc(signer->latencies_ns, signer->capacity * sizeof *signer->latencies_ns);
        if (!signer->latencies_ns)
            fail("out of memory");
    }
    signer->latencies_ns[signer->count++] =
        latency_ns < UINT32_MAX ? (uint32_t)latency_ns : UINT32_MAX;
}

static void *run(void *argument)
{
    Signer *signer = argument;

    sign_once(signer, UINT64_MAX); /* the first one fills caches */
    pthread_barrier_wait(signer->start);
    uint64_t began = now_ns(), deadline = began + (uint64_t)(signer->seconds * 1e9);
    do {
        sign_once(signer, signer->count);
        uint64_t ended = now_ns();
        record(signer, ended - began);
        began = ended;
    } while (began < deadline);
    signer->ended_ns = began;
    return NULL;
}

static int ascending(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

/* Fills in the count and the percentiles, over the latencies of all threads together. */
static void summarise(const Signer *signers, unsigned count, Result *result)
{
    size_t total = 0, filled = 0;
    for (unsigned i = 0; i < count; i++)
        total += signers[i].count;
    uint32_t *all = malloc(total * sizeof *all);
    if (!all)
        fail("out of memory");
    for (unsigned i = 0; i < count; i++) {
        memcpy(all + filled, signers[i].latencies_ns, signers[i].count * sizeof *all);
        filled += signers[i].count;
    }
    qsort(all, total, sizeof *all, ascending);
    result->signatures = total;
    result->p50_ns = all[total / 2];
    result->p99_ns = all[total - 1 - total / 100];
    free(all);
}

static Result measure(Signer *signers, unsigned count)
{
    pthread_t threads[MOST_THREADS];
    pthread_barrier_t start;
    Result result = {0};

    pthread_barrier_init(&start, NULL, count + 1);
    for (unsigned i = 0; i < count; i++) {
        signers[i].start = &start;
        if (pthread_create(&threads[i], NULL, run, &signers[i]) != 0)
            fail("cannot start thread %u", i + 1);
    }
    pthread_barrier_wait(&start);
    uint64_t began = now_ns(), ended = began;
    double cpu_before = cpu_seconds();
    for (unsigned i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        if (signers[i].ended_ns > ended)
            ended = signers[i].ended_ns;
    }
    result.cpu_seconds = cpu_seconds() - cpu_before;
    result.seconds = (double)(ended - began) / 1e9;
    summarise(signers, count, &result);
    return result;
}

static void print(const Result *result, unsigned threads)
{
    double signatures = (double)result->signatures;
    printf("{\"signatures\": %zu, \"seconds\": %.3f, \"per_second\": %.1f, \"p50_us\": %.1f, "
           "\"p99_us\": %.1f, \"threads\": %u, \"cpu_us_per_signature\": %.1f}\n",
           result->signatures, result->seconds, signatures / result->seconds,
           result->p50_ns / 1e3, result->p99_ns / 1e3, threads,
           result->cpu_seconds * 1e6 / signatures);
}
