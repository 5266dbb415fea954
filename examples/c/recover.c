/* Recovers the node below ROOT: cc recover.c -lcprecover && ./a.out ROOT */
#include <cprecover.h>
#include <stdio.h>
#include <string.h>

static int fail(const char *what, cpr_error *error) {
    fprintf(stderr, "%s: %s (%s)\n", what, cpr_error_message(error), cpr_status_name(cpr_error_code(error)));
    cpr_error_free(error);
    return 1;
}

int main(int argc, char **argv) {
    const char *root = argc > 1 ? argv[1] : "/";
    cpr_node_options options;
    cpr_node *node = NULL;
    cpr_observation *seen = NULL;
    cpr_plan *plan = NULL;
    cpr_buf text = {0};
    cpr_error *error = NULL;
    int exit = 1;

    memset(&options, 0, sizeof options);
    options.root = root;
    options.root_len = strlen(root);
    if (cpr_node_open(&options, sizeof options, &node, &error) != CPR_OK) return fail("open", error);
    if (cpr_observe(node, NULL, 0, &seen, &error) != CPR_OK) { fail("observe", error); goto end; }
    if (cpr_plan_new(seen, NULL, &plan, &error) != CPR_OK) { fail("plan", error); goto end; }
    if (cpr_plan_json(plan, &text, &error) != CPR_OK) { fail("plan", error); goto end; }
    fprintf(stderr, "%s\n", (const char *)text.ptr);
    cpr_buf_free(&text);
    if (cpr_recover(node, NULL, NULL, 0, NULL, 0, &text, &error) != CPR_OK) { fail("recover", error); goto end; }
    puts((const char *)text.ptr);
    exit = strstr((const char *)text.ptr, "\"ending\":{\"state\":\"healthy\"}") == NULL;
end:
    cpr_buf_free(&text);
    cpr_plan_free(plan);
    cpr_observation_free(seen);
    cpr_node_free(node);
    return exit;
}
