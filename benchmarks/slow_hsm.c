/*
 * A PKCS#11 module that behaves like an HSM on the network: a signature takes
 * MESHKEY_SLOW_HSM_US microseconds and none of this machine's processor. Everything else
 * goes to the module that MESHKEY_SLOW_HSM_MODULE names.
 *
 * The first signatures of each thread are real, because whoever uses a token checks some;
 * later ones repeat the last real one after the pause. For measuring, with one key.
 *
 * tests/shim can pause too, but opens and reads its file of rules in each call.
 *
 * Build: gcc -O2 -Wall -Wextra -Werror -shared -fPIC -o libslow_hsm.so slow_hsm.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef unsigned long Ulong;
typedef Ulong Rv;

/* Positions in CK_FUNCTION_LIST (PKCS#11 2.40). */
enum { FUNCTIONS = 68, SIGN_INIT = 42, SIGN = 43 };
enum { REAL = 8, LONGEST_SIGNATURE = 512, CKR_GENERAL_ERROR = 5 };

typedef Rv (*SignInit)(Ulong session, void *mechanism, Ulong key);
typedef Rv (*Sign)(Ulong session, void *data, Ulong length, unsigned char *signature, Ulong *signed_);

typedef struct {
    unsigned char version[2];
    void *functions[FUNCTIONS];
} FunctionList;

static FunctionList list;
static SignInit real_sign_init;
static Sign real_sign;
static struct timespec pause_;

static __thread unsigned made;
static __thread unsigned char last[LONGEST_SIGNATURE];
static __thread Ulong last_length;

static Rv sign_init(Ulong session, void *mechanism, Ulong key)
{
    return made < REAL ? real_sign_init(session, mechanism, key) : 0;
}

static Rv sign(Ulong session, void *data, Ulong length, unsigned char *signature, Ulong *signed_)
{
    /* A question for the length is no signature; modules answer it themselves. */
    if (signature)
        nanosleep(&pause_, NULL);
    if (made < REAL) {
        Rv rv = real_sign(session, data, length, signature, signed_);
        if (rv == 0 && signature && *signed_ <= sizeof last) {
            memcpy(last, signature, *signed_);
            last_length = *signed_;
            made++;
        }
        return rv;
    }
    if (signature)
        memcpy(signature, last, last_length);
    *signed_ = last_length;
    return 0;
}

Rv C_GetFunctionList(FunctionList **out)
{
    const char *path = getenv("MESHKEY_SLOW_HSM_MODULE"), *us = getenv("MESHKEY_SLOW_HSM_US");
    void *module = path && us ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    Rv (*get)(FunctionList **) = NULL;
    FunctionList *real;
    if (module)
        *(void **)&get = dlsym(module, "C_GetFunctionList");
    if (!get || get(&real) != 0)
        return CKR_GENERAL_ERROR;
    memcpy(&list, real, sizeof list);
    *(void **)&real_sign_init = real->functions[SIGN_INIT];
    *(void **)&real_sign = real->functions[SIGN];
    *(SignInit *)&list.functions[SIGN_INIT] = sign_init;
    *(Sign *)&list.functions[SIGN] = sign;
    long pause_us = atol(us);
    pause_ = (struct timespec){pause_us / 1000000, pause_us % 1000000 * 1000};
    *out = &list;
    return 0;
}
