/* Parses a health answer; misuses what can be misused without a node. */
#include <cprecover.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define CHECK(x) do { if (!(x)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); exit(1); } } while (0)

int main(void) {
    static const char body[] = "[+]ping ok\n[-]etcd failed: reason withheld\nhealthz check failed\n";
    cpr_buf json = {0}, copy;
    cpr_health brief;
    cpr_error *error = NULL;
    cpr_node *node = NULL;
    cpr_cancel *cancel = NULL;
    cpr_node_options options;
    struct { cpr_call call; long tail[4]; } grown;

    CHECK(cpr_abi_version() == CPR_ABI_VERSION && strcmp(cpr_version(), CPR_VERSION) == 0);
    CHECK(cpr_healthz_parse(500, body, sizeof body - 1, &json, &error) == CPR_OK && error == NULL);
    CHECK(strlen((char *)json.ptr) == json.len && strstr((char *)json.ptr, "\"unhealthy\"") != NULL);
    copy = json;
    cpr_buf_free(&json); cpr_buf_free(&json); cpr_buf_free(&copy); cpr_buf_free(NULL);
    CHECK(cpr_healthz_brief(0, body, sizeof body - 1, &brief, NULL) == CPR_OK);
    CHECK(brief.verdict == CPR_HEALTH_UNHEALTHY && brief.checks == 2 && brief.failed == 1 && brief.etcd_failed == 1);
    CHECK(cpr_healthz_parse(0, NULL, 0, &json, NULL) == CPR_OK); cpr_buf_free(&json);
    CHECK(cpr_healthz_parse(0, NULL, 1, &json, &error) == CPR_E_ARGUMENT);
    CHECK(cpr_error_code(error) == CPR_E_ARGUMENT && strlen(cpr_error_message(error)) > 0);
    cpr_error_free(error); cpr_error_free(error); cpr_error_free(NULL);
    CHECK(cpr_error_code(error) == CPR_E_HANDLE && cpr_error_code(NULL) == CPR_OK);
    CHECK(cpr_healthz_parse(0, body, (size_t)-1, &json, NULL) == CPR_E_ARGUMENT);
    CHECK(cpr_healthz_parse(0, body, 1, NULL, NULL) == CPR_E_ARGUMENT);
    CHECK(cpr_healthz_parse(70000, body, 1, &json, NULL) == CPR_E_ARGUMENT);

    memset(&options, 0, sizeof options);
    options.root = "relative"; options.root_len = 8;
    CHECK(cpr_node_open(&options, sizeof options, &node, NULL) == CPR_E_INVALID && node == NULL);
    CHECK(cpr_node_open(&options, 5000, &node, NULL) == CPR_E_ARGUMENT);
    options.root = "/nonexistent"; options.root_len = 12;
    CHECK(cpr_node_open(&options, sizeof options, NULL, NULL) == CPR_E_ARGUMENT);
    CHECK(cpr_node_open(&options, sizeof options, &node, NULL) == CPR_OK && node != NULL);
    CHECK(cpr_node_json(node, &json, NULL) == CPR_OK); cpr_buf_free(&json);
    CHECK(cpr_plan_json((const cpr_plan *)(const void *)node, &json, NULL) == CPR_E_HANDLE);
    CHECK(cpr_plan_json(NULL, &json, NULL) == CPR_E_ARGUMENT);
    CHECK(cpr_cancel_new(&cancel, NULL) == CPR_OK);
    cpr_cancel_trigger(cancel);
    memset(&grown, 0, sizeof grown);
    grown.call.cancel = cancel;
    CHECK(cpr_backup_verify(node, "latest", 6, &grown.call, sizeof grown, &json, NULL) != CPR_OK);
    grown.tail[3] = 1;
    CHECK(cpr_backup_verify(node, "latest", 6, &grown.call, sizeof grown, &json, NULL) == CPR_E_UNSUPPORTED);
    cpr_cancel_free(cancel); cpr_cancel_free(cancel);
    grown.tail[3] = 0;
    CHECK(cpr_backup_verify(node, "latest", 6, &grown.call, sizeof grown.call, &json, NULL) == CPR_E_HANDLE);
    cpr_node_cancel(node); cpr_node_cancel(NULL);
    cpr_node_free(node); cpr_node_free(node);
    CHECK(cpr_node_json(node, &json, NULL) == CPR_E_HANDLE);
    puts("smoke ok");
    return 0;
}
