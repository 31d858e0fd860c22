/*
 * An experiment, not part of the sidecar: POSIX threads, each with a session of its own,
 * that sign with a PKCS#11 module which this process has started and logged in already.
 * Python hands over and takes back many requests in one call, without its lock.
 *
 * A session's handle of a key is found once. Errors are PKCS#11's, in the answers; a failed
 * session is not repaired here. See docs/adr/0015-signing-pool.md.
 *
 * Build: gcc -O2 -Wall -Wextra -Werror -shared -fPIC -o libnative_pool.so native_pool.c -lpthread
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long Ulong;
typedef Ulong Rv;

/* Positions in CK_FUNCTION_LIST (PKCS#11 2.40). */
enum {
    OPEN_SESSION = 12,
    CLOSE_SESSION = 13,
    FIND_INIT = 26,
    FIND = 27,
    FIND_FINAL = 28,
    SIGN_INIT = 42,
    SIGN = 43,
};
enum {
    KEY_ID = 16,
    LONGEST_DIGEST = 64,
    LONGEST_SIGNATURE = 160,
    CAPACITY = 1024, /* requests that wait, and answers that nobody took */
    CKA_CLASS = 0,
    CKA_ID = 0x102,
    CKO_PRIVATE_KEY = 3,
    CKF_SERIAL_SESSION = 4,
    CKM_ECDSA = 0x1041,
    CKR_KEY_HANDLE_INVALID = 0x60,
};

typedef struct {
    unsigned char version[2];
    Rv (*functions[68])();
} FunctionList;

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

/* What crosses to Python; benchmarks/native_pool.py has the same layout. */
typedef struct {
    Ulong number, length;
    unsigned char key_id[KEY_ID], digest[LONGEST_DIGEST];
} Request;

typedef struct {
    Ulong number, rv, length;
    unsigned char signature[LONGEST_SIGNATURE];
} Answer;

typedef struct Pool {
    const FunctionList *token;
    Ulong slot;
    pthread_mutex_t lock;
    pthread_cond_t asked, answered;
    Request requests[CAPACITY];
    Answer answers[CAPACITY];
    Ulong first_request, requests_end, first_answer, answers_end, running;
    bool closed;
    unsigned threads;
    pthread_t ids[];
} Pool;

static Rv find(const FunctionList *token, Ulong session, unsigned char *id, Ulong *key)
{
    Ulong private_key = CKO_PRIVATE_KEY, count = 0;
    Attribute wanted[] = {{CKA_CLASS, &private_key, sizeof private_key}, {CKA_ID, id, KEY_ID}};
    Rv rv = token->functions[FIND_INIT](session, wanted, (Ulong)2);
    if (rv)
        return rv;
    rv = token->functions[FIND](session, key, (Ulong)1, &count);
    token->functions[FIND_FINAL](session);
    return rv || count ? rv : CKR_KEY_HANDLE_INVALID;
}

static void sign(const FunctionList *token, Ulong session, Ulong key, Request *asked, Answer *made)
{
    Mechanism mechanism = {.mechanism = CKM_ECDSA};
    made->number = asked->number;
    made->length = sizeof made->signature;
    made->rv = token->functions[SIGN_INIT](session, &mechanism, key);
    if (!made->rv)
        made->rv = token->functions[SIGN](session, asked->digest, asked->length, made->signature,
                                          &made->length);
}

static void *run(void *argument)
{
    Pool *pool = argument;
    unsigned char known[KEY_ID];
    Ulong session, key = 0;
    Request request;
    Answer answer;
    Rv ready = pool->token->functions[OPEN_SESSION](pool->slot, (Ulong)CKF_SERIAL_SESSION, NULL,
                                                    NULL, &session);

    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->first_request == pool->requests_end && !pool->closed)
            pthread_cond_wait(&pool->asked, &pool->lock);
        if (pool->closed)
            break;
        request = pool->requests[pool->first_request++ % CAPACITY];
        pool->running++;
        pthread_mutex_unlock(&pool->lock);
        Rv rv = ready;
        if (!rv && (!key || memcmp(known, request.key_id, KEY_ID))) {
            memcpy(known, request.key_id, KEY_ID);
            rv = find(pool->token, session, known, &key);
        }
        if (!rv)
            sign(pool->token, session, key, &request, &answer);
        else
            answer = (Answer){.number = request.number, .rv = rv};
        if (answer.rv)
            key = 0;
        pthread_mutex_lock(&pool->lock);
        pool->running--;
        pool->answers[pool->answers_end++ % CAPACITY] = answer;
        pthread_cond_signal(&pool->answered);
    }
    pthread_mutex_unlock(&pool->lock);
    if (!ready)
        pool->token->functions[CLOSE_SESSION](session);
    return NULL;
}

/* Waits for running signatures; drops what has not begun. */
void pool_close(Pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->closed = true;
    pthread_cond_broadcast(&pool->asked);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->threads; i++)
        pthread_join(pool->ids[i], NULL);
    free(pool);
}

/* `module` is loaded, started and logged in. NULL where that is not so. */
Pool *pool_open(const char *module, Ulong slot, unsigned threads)
{
    void *library = dlopen(module, RTLD_NOW | RTLD_NOLOAD);
    Rv (*get)(const FunctionList **) = NULL;
    Pool *pool = calloc(1, sizeof *pool + threads * sizeof(pthread_t));
    if (library)
        *(void **)&get = dlsym(library, "C_GetFunctionList");
    if (!pool || !get || get(&pool->token)) {
        free(pool);
        return NULL;
    }
    pool->slot = slot;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->asked, NULL);
    pthread_cond_init(&pool->answered, NULL);
    while (pool->threads < threads && !pthread_create(&pool->ids[pool->threads], NULL, run, pool))
        pool->threads++;
    return pool;
}

/* Returns how many were taken: fewer than `count` where the pool is full. Never blocks. */
unsigned pool_submit(Pool *pool, const Request *requests, unsigned count)
{
    unsigned taken = 0;
    pthread_mutex_lock(&pool->lock);
    while (taken < count && pool->requests_end - pool->first_request + pool->running +
                                    (pool->answers_end - pool->first_answer) < CAPACITY) {
        pool->requests[pool->requests_end++ % CAPACITY] = requests[taken++];
        pthread_cond_signal(&pool->asked);
    }
    pthread_mutex_unlock(&pool->lock);
    return taken;
}

/* Blocks until there is an answer; returns how many there are, `most` at most. */
unsigned pool_collect(Pool *pool, Answer *answers, unsigned most)
{
    unsigned count = 0;
    pthread_mutex_lock(&pool->lock);
    while (pool->first_answer == pool->answers_end)
        pthread_cond_wait(&pool->answered, &pool->lock);
    while (count < most && pool->first_answer != pool->answers_end)
        answers[count++] = pool->answers[pool->first_answer++ % CAPACITY];
    pthread_mutex_unlock(&pool->lock);
    return count;
}
