/* What a health answer costs through C, and what loading the library costs.
   Usage: overhead LIBRARY; prints `c brief NS`, `c json NS` and `dlopen NS`, each the best of several rounds. */
#define _POSIX_C_SOURCE 200809L
#include <cprecover.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char body[] = "[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\n[+]poststarthook/start ok\nhealthz check failed\n";
enum { ROUNDS = 15, CALLS = 20000 };
typedef cpr_status (*brief_fn)(uint32_t, const char *, size_t, cpr_health *, cpr_error **);
typedef cpr_status (*json_fn)(uint32_t, const char *, size_t, cpr_buf *, cpr_error **);
typedef void (*free_fn)(cpr_buf *);

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}
static void *symbol(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (!found) { fprintf(stderr, "%s\n", dlerror()); exit(1); }
    return found;
}

int main(int argc, char **argv) {
    double best_brief = 1e18, best_json = 1e18, begun = now(), load;
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    brief_fn brief; json_fn json; free_fn buf_free;
    load = now() - begun;
    if (!library) { fprintf(stderr, "%s\n", argc > 1 ? dlerror() : "usage: overhead LIBRARY"); return 1; }
    *(void **)&brief = symbol(library, "cpr_healthz_brief");
    *(void **)&json = symbol(library, "cpr_healthz_parse");
    *(void **)&buf_free = symbol(library, "cpr_buf_free");
    for (int round = 0; round < ROUNDS; round++) {
        double start = now(), took;
        for (int i = 0; i < CALLS; i++) {
            cpr_health health;
            cpr_error *error;
            if (brief(500, body, sizeof body - 1, &health, &error) != CPR_OK || !health.etcd_failed) return 1;
        }
        took = (now() - start) / CALLS;
        if (took < best_brief) best_brief = took;
        start = now();
        for (int i = 0; i < CALLS; i++) {
            cpr_buf text;
            cpr_error *error;
            if (json(500, body, sizeof body - 1, &text, &error) != CPR_OK) return 1;
            buf_free(&text);
        }
        took = (now() - start) / CALLS;
        if (took < best_json) best_json = took;
    }
    printf("c brief %.0f\nc json %.0f\ndlopen %.0f\n", best_brief, best_json, load);
    return 0;
}
