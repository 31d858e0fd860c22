/* A PKCS#11 module that stands before a real one and looks like another kind of token.
 *
 *   MESHKEY_KEYPAD_MODULE  the real module
 *   MESHKEY_KEYPAD_FLAGS   flags that its tokens have beside their own (CK_TOKEN_INFO.flags)
 *   MESHKEY_KEYPAD_PIN     a file with what is entered when C_Login brings no PIN
 *   MESHKEY_KEYPAD_ANSWER  what C_Login returns, without asking the real one; 0 asks it
 *   MESHKEY_KEYPAD_LOG     a file that gets a line for each C_Initialize and C_Login
 *
 * All but the first are read anew at each call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long CK_RV;
typedef CK_RV (*function)(long, long, long, long, long, long, long, long);

enum { FUNCTIONS = 68, C_INITIALIZE = 0, C_GET_TOKEN_INFO = 6, C_LOGIN = 18 };
/* In CK_TOKEN_INFO, behind label[32], manufacturerID[32], model[16] and serialNumber[16]. */
enum { FLAGS_AT = 96 };
enum { CKR_GENERAL_ERROR = 5, CKR_ARGUMENTS_BAD = 7 };

struct function_list {
    unsigned char version[2];
    function functions[FUNCTIONS];
};

static struct function_list *real;
static struct function_list keypad;

static void record(const char *line) {
    const char *path = getenv("MESHKEY_KEYPAD_LOG");
    FILE *log = path ? fopen(path, "a") : NULL;
    if (log == NULL)
        return;
    fprintf(log, "%s\n", line);
    fclose(log);
}

static unsigned long number(const char *variable) {
    const char *text = getenv(variable);
    return text ? strtoul(text, NULL, 0) : 0;
}

static CK_RV initialize(long arguments) {
    record("C_Initialize");
    return real->functions[C_INITIALIZE](arguments, 0, 0, 0, 0, 0, 0, 0);
}

static CK_RV token_info(long slot, char *info) {
    CK_RV answer = real->functions[C_GET_TOKEN_INFO](slot, (long)info, 0, 0, 0, 0, 0, 0);
    unsigned long flags;
    memcpy(&flags, info + FLAGS_AT, sizeof flags);
    flags |= number("MESHKEY_KEYPAD_FLAGS");
    memcpy(info + FLAGS_AT, &flags, sizeof flags);
    return answer;
}

static CK_RV login(long session, long user, char *pin, unsigned long length) {
    static char entered[256];
    record(pin ? "C_Login with a PIN" : "C_Login without a PIN");
    if (number("MESHKEY_KEYPAD_ANSWER"))
        return number("MESHKEY_KEYPAD_ANSWER");
    if (pin == NULL) {
        const char *path = getenv("MESHKEY_KEYPAD_PIN");
        FILE *file = path ? fopen(path, "r") : NULL;
        if (file == NULL)
            return CKR_ARGUMENTS_BAD;
        length = fread(entered, 1, sizeof entered, file);
        fclose(file);
        pin = entered;
    }
    return real->functions[C_LOGIN](session, user, (long)pin, (long)length, 0, 0, 0, 0);
}

CK_RV C_GetFunctionList(struct function_list **list) {
    const char *path = getenv("MESHKEY_KEYPAD_MODULE");
    void *module = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    CK_RV (*entry)(struct function_list **) =
        module ? (CK_RV(*)(struct function_list **))dlsym(module, "C_GetFunctionList") : NULL;
    if (entry == NULL || entry(&real) != 0)
        return CKR_GENERAL_ERROR;
    keypad = *real;
    keypad.functions[C_INITIALIZE] = (function)initialize;
    keypad.functions[C_GET_TOKEN_INFO] = (function)token_info;
    keypad.functions[C_LOGIN] = (function)login;
    *list = &keypad;
    return 0;
}
