/* Eight threads call what needs no node, and one shared handle, at once. */
#include <cprecover.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 8 };
static int rounds = 10000;
static cpr_node *node;

static void *work(void *unused) {
    static const char body[] = "[+]ping ok\n[-]etcd failed\n";
    (void)unused;
    for (int i = 0; i < rounds; i++) {
        cpr_health health;
        cpr_cancel *cancel;
        cpr_error *error;
        cpr_buf json;
        if (cpr_healthz_brief(0, body, sizeof body - 1, &health, NULL) != CPR_OK || health.failed != 1) exit(1);
        if (cpr_cancel_new(&cancel, NULL) != CPR_OK) exit(2);
        cpr_cancel_trigger(cancel);
        cpr_cancel_free(cancel);
        cpr_node_cancel(node);
        if (i % 16 == 0) {
            if (cpr_node_json(node, &json, NULL) != CPR_OK) exit(3);
            cpr_buf_free(&json);
            if (cpr_node_json(NULL, &json, &error) != CPR_E_ARGUMENT) exit(4);
            cpr_error_free(error);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    pthread_t threads[THREADS];
    if (argc > 1) rounds = atoi(argv[1]);
    if (cpr_node_open(NULL, 0, &node, NULL) != CPR_OK) return 5;
    for (int i = 0; i < THREADS; i++) if (pthread_create(&threads[i], NULL, work, NULL) != 0) return 6;
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    cpr_node_free(node);
    puts("threads ok");
    return 0;
}
