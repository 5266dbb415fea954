// Example policy: restarts a kubelet that does not run, and nothing else.

#include "control_plane_policy.h"
#include <stdlib.h>
#include <string.h>

static control_plane_policy_string_t text(const char *from) {
    return (control_plane_policy_string_t){(uint8_t *)from, strlen(from)};
}

void exports_cprecover_policy_policy_describe(exports_cprecover_policy_policy_metadata_t *me) {
    static cprecover_policy_types_rule_t rules[1];
    rules[0] = (cprecover_policy_types_rule_t){text("kubelet-down"), text("kubelet does not run: restart it")};
    *me = (exports_cprecover_policy_policy_metadata_t){text("only-kubelet"), text("1.0.0"),
        text("restarts a kubelet that does not run"), {rules, 1}};
}

bool exports_cprecover_policy_policy_decide(exports_cprecover_policy_policy_observation_t *seen,
    exports_cprecover_policy_policy_list_decision_t *decided, control_plane_policy_string_t *error) {
    (void)error;
    *decided = (exports_cprecover_policy_policy_list_decision_t){malloc(seen->services.len * sizeof *decided->ptr), 0};
    for (size_t i = 0; i < seen->services.len; i++) {
        cprecover_policy_types_service_t *service = &seen->services.ptr[i];
        bool down = service->state == CPRECOVER_POLICY_TYPES_SERVICE_STATE_INACTIVE ||
            service->state == CPRECOVER_POLICY_TYPES_SERVICE_STATE_FAILED;
        if (service->name != CPRECOVER_POLICY_TYPES_SERVICE_NAME_KUBELET || !down)
            continue;
        control_plane_policy_string_t why = {malloc(service->detail.len + 24), 0};
        const control_plane_policy_string_t parts[] = {text("kubelet does not run ("), service->detail, text(")")};
        for (int part = 0; part < 3; why.len += parts[part++].len)
            memcpy(why.ptr + why.len, parts[part].ptr, parts[part].len);
        decided->ptr[decided->len++] = (exports_cprecover_policy_policy_decision_t){
            .rule_id = text("kubelet-down"), .action = {.tag = CPRECOVER_POLICY_TYPES_ACTION_RESTART_KUBELET},
            .reason = why, .confidence = 0.75f, .max_attempts = 3, .cool_down_ms = 15000};
    }
    return true;
}
