/* A PKCS#11 module that stands before a real one and delays, fails or hangs on command.
 *
 *   MESHKEY_SHIM_MODULE   the real module
 *   MESHKEY_SHIM_CONTROL  a file of rules, read anew at each call; one rule a line:
 *
 *     C_Sign delay 50      wait 50 ms, then call the real function
 *     C_Sign fail 0x32     return that CK_RV and do not call it
 *     C_Sign hang          do not return while the rule is there
 *     C_Sign fail 0x32 times 2    the same, for two calls in this process, then no rule at all
 *     C_Sign fail 0x32 each 1     the same, for one call of each thread
 *     C_OpenSession limit 3       CKR_SESSION_COUNT while so many sessions are open
 *     C_GetTokenInfo sessions 3   ulMaxSessionCount is 3
 *
 *   <the same>.most       the most calls of C_Sign that were in here at once; written by us
 *
 *   MESHKEY_SHIM_SESSIONS  <that>.<process id> has how many sessions are open; written by us
 *
 * The first rule for a function that still applies counts; a new file of rules starts counting
 * anew. C_GetTokenInfo always says how many sessions are open in this process.
 * A size query (C_Sign without a buffer) is no signature: rules leave it alone, as tokens do.
 * Write the file elsewhere and rename it into place: a half-written rule is not read then.
 * Every function takes only integers and pointers, so one wrapper with as many arguments as
 * C_GenerateKeyPair serves them all (System V AMD64 and AAPCS64 calling conventions). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long CK_RV;
typedef CK_RV (*function)(long, long, long, long, long, long, long, long);

enum {
    FUNCTIONS = 68,
    C_FINALIZE = 1,
    C_GETTOKENINFO = 6,
    C_OPENSESSION = 12,
    C_CLOSESESSION = 13,
    C_CLOSEALLSESSIONS = 14,
    C_SIGN = 43,
    CKR_GENERAL_ERROR = 5,
    CKR_SESSION_COUNT = 0xb1,
    RULES = 64,
    /* In CK_TOKEN_INFO: after the texts and the flags. */
    MAX_SESSION_COUNT = 32 + 32 + 16 + 16 + sizeof(long),
};

/* CK_FUNCTION_LIST of PKCS#11 2.40: a version, then these functions in this order. */
struct function_list {
    unsigned char version[2];
    function functions[FUNCTIONS];
};

static const char *const names[FUNCTIONS] = {
    "C_Initialize", "C_Finalize", "C_GetInfo", "C_GetFunctionList", "C_GetSlotList",
    "C_GetSlotInfo", "C_GetTokenInfo", "C_GetMechanismList", "C_GetMechanismInfo",
    "C_InitToken", "C_InitPIN", "C_SetPIN", "C_OpenSession", "C_CloseSession",
    "C_CloseAllSessions", "C_GetSessionInfo", "C_GetOperationState", "C_SetOperationState",
    "C_Login", "C_Logout", "C_CreateObject", "C_CopyObject", "C_DestroyObject",
    "C_GetObjectSize", "C_GetAttributeValue", "C_SetAttributeValue", "C_FindObjectsInit",
    "C_FindObjects", "C_FindObjectsFinal", "C_EncryptInit", "C_Encrypt", "C_EncryptUpdate",
    "C_EncryptFinal", "C_DecryptInit", "C_Decrypt", "C_DecryptUpdate", "C_DecryptFinal",
    "C_DigestInit", "C_Digest", "C_DigestUpdate", "C_DigestKey", "C_DigestFinal", "C_SignInit",
    "C_Sign", "C_SignUpdate", "C_SignFinal", "C_SignRecoverInit", "C_SignRecover",
    "C_VerifyInit", "C_Verify", "C_VerifyUpdate", "C_VerifyFinal", "C_VerifyRecoverInit",
    "C_VerifyRecover", "C_DigestEncryptUpdate", "C_DecryptDigestUpdate", "C_SignEncryptUpdate",
    "C_DecryptVerifyUpdate", "C_GenerateKey", "C_GenerateKeyPair", "C_WrapKey", "C_UnwrapKey",
    "C_DeriveKey", "C_SeedRandom", "C_GenerateRandom", "C_GetFunctionStatus",
    "C_CancelFunction", "C_WaitForSlotEvent",
};

static struct function_list *real;
static struct function_list shim;

static void pause_ms(long milliseconds) {
    struct timespec rest = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    nanosleep(&rest, NULL);
}

/* How often each rule of a file was used. */
struct uses {
    ino_t file;
    struct timespec since;
    long count[RULES];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct uses uses_of_all;
static __thread struct uses uses_of_thread;
static long sessions;

/* Uses up one of the calls that rule number n is for; returns whether there was one left. */
static int use(struct uses *uses, const struct stat *file, int n, long times) {
    int left;
    if (n >= RULES) return 0;
    pthread_mutex_lock(&lock);
    if (file->st_ino != uses->file || memcmp(&file->st_mtim, &uses->since, sizeof uses->since)) {
        uses->file = file->st_ino;
        uses->since = file->st_mtim;
        memset(uses->count, 0, sizeof uses->count);
    }
    left = uses->count[n] < times;
    uses->count[n] += left;
    pthread_mutex_unlock(&lock);
    return left;
}

/* Finds the rule for a function; returns whether there is one. */
static int rule(const char *name, char verb[16], long *value) {
    const char *path = getenv("MESHKEY_SHIM_CONTROL");
    FILE *file = path ? fopen(path, "re") : NULL;
    char line[128], who[64], number[32], of[8];
    int found = 0;
    long times;
    struct stat about;
    if (!file || fstat(fileno(file), &about)) return 0;
    for (int n = 0; !found && fgets(line, sizeof line, file); n++) {
        number[0] = 0;
        found = sscanf(line, "%63s %15s %31s %7s %ld", who, verb, number, of, &times);
        found = found >= 2 && !strcmp(who, name) &&
                (found < 5 || use(strcmp(of, "each") ? &uses_of_all : &uses_of_thread, &about, n,
                                  times));
    }
    fclose(file);
    *value = found ? strtol(number, NULL, 0) : 0;
    return found;
}

/* Always as many characters, in one write: whoever reads finds a whole number. */
static void tell_sessions(void) {
    const char *name = getenv("MESHKEY_SHIM_SESSIONS");
    char path[4096];
    int file;
    if (!name) return;
    snprintf(path, sizeof path, "%s.%d", name, (int)getpid());
    file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) return;
    dprintf(file, "%8ld", sessions);
    close(file);
}

static void count_sessions(int index) {
    pthread_mutex_lock(&lock);
    if (index == C_OPENSESSION) sessions++;
    if (index == C_CLOSESESSION) sessions--;
    if (index == C_FINALIZE || index == C_CLOSEALLSESSIONS) sessions = 0;
    if (index == C_FINALIZE || (index >= C_OPENSESSION && index <= C_CLOSEALLSESSIONS))
        tell_sessions();
    pthread_mutex_unlock(&lock);
}

static CK_RV call(int index, long a, long b, long c, long d, long e, long f, long g, long h) {
    char verb[16];
    long value;
    CK_RV result;
    if (index == C_SIGN && !d) return real->functions[index](a, b, c, d, e, f, g, h);
    while (rule(names[index], verb, &value)) {
        if (!strcmp(verb, "fail")) return (CK_RV)value;
        if (!strcmp(verb, "limit") && sessions >= value) return CKR_SESSION_COUNT;
        if (!strcmp(verb, "delay")) pause_ms(value);
        if (strcmp(verb, "hang")) break;
        pause_ms(10);
    }
    result = real->functions[index](a, b, c, d, e, f, g, h);
    if (result) return result;
    count_sessions(index);
    if (index == C_GETTOKENINFO) {
        memcpy((char *)b + MAX_SESSION_COUNT + sizeof sessions, &sessions, sizeof sessions);
        if (rule(names[index], verb, &value) && !strcmp(verb, "sessions"))
            memcpy((char *)b + MAX_SESSION_COUNT, &value, sizeof value);
    }
    return result;
}

/* A call of C_Sign comes (1) or goes (-1). */
static void signing(int change) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int inside, most;
    const char *control = getenv("MESHKEY_SHIM_CONTROL");
    char path[4096];
    FILE *file;
    pthread_mutex_lock(&lock);
    inside += change;
    if (inside > most && control) {
        most = inside;
        snprintf(path, sizeof path, "%s.most", control);
        if ((file = fopen(path, "we"))) {
            fprintf(file, "%d", most);
            fclose(file);
        }
    }
    pthread_mutex_unlock(&lock);
}

static CK_RV counted(int index, long a, long b, long c, long d, long e, long f, long g, long h) {
    CK_RV result;
    if (index != C_SIGN || !d) return call(index, a, b, c, d, e, f, g, h);
    signing(1);
    result = call(index, a, b, c, d, e, f, g, h);
    signing(-1);
    return result;
}

#define WRAPPER(n) \
    static CK_RV wrapper_##n(long a, long b, long c, long d, long e, long f, long g, long h) { \
        return counted(n, a, b, c, d, e, f, g, h); \
    }
#define TEN(apply, t) \
    apply(t##0) apply(t##1) apply(t##2) apply(t##3) apply(t##4) \
    apply(t##5) apply(t##6) apply(t##7) apply(t##8) apply(t##9)
#define ONES(apply) \
    apply(0) apply(1) apply(2) apply(3) apply(4) apply(5) apply(6) apply(7) apply(8) apply(9)
#define ALL(apply) \
    ONES(apply) TEN(apply, 1) TEN(apply, 2) TEN(apply, 3) TEN(apply, 4) TEN(apply, 5) \
    apply(60) apply(61) apply(62) apply(63) apply(64) apply(65) apply(66) apply(67)
ALL(WRAPPER)
#define POINTER(n) wrapper_##n,
static const function wrappers[FUNCTIONS] = {ALL(POINTER)};

CK_RV C_GetFunctionList(struct function_list **list) {
    if (!real) {
        const char *path = getenv("MESHKEY_SHIM_MODULE");
        void *module = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
        CK_RV (*get)(struct function_list **) =
            module ? (CK_RV (*)(struct function_list **))dlsym(module, "C_GetFunctionList") : NULL;
        struct function_list *found;
        if (!get || get(&found)) return CKR_GENERAL_ERROR;
        memcpy(shim.version, found->version, sizeof shim.version);
        memcpy(shim.functions, wrappers, sizeof wrappers);
        real = found;
    }
    *list = &shim;
    return 0;
}
