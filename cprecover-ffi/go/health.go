package cprecover

// #include "shim.h"
import "C"

import "encoding/json"

// Verdict is what a health answer says.
type Verdict int32

// The verdicts.
const (
	// HealthUnknown is no health answer at all.
	HealthUnknown Verdict = C.CPR_HEALTH_UNKNOWN
	// HealthHealthy says that it is healthy.
	HealthHealthy Verdict = C.CPR_HEALTH_HEALTHY
	// HealthUnhealthy says that it is not.
	HealthUnhealthy Verdict = C.CPR_HEALTH_UNHEALTHY
	// HealthUndetermined is alive, but says nothing about its health.
	HealthUndetermined Verdict = C.CPR_HEALTH_UNDETERMINED
)

// Health is a health answer in brief.
type Health struct {
	// Verdict is what it says.
	Verdict Verdict
	// Checks is how many checks it reports, Failed how many of them failed.
	Checks, Failed int
	// EtcdFailed says whether the check named "etcd" failed.
	EtcdFailed bool
}

// ParseHealth parses the answer of a health endpoint; httpStatus is 0 when it is not known.
func ParseHealth(httpStatus int, body []byte) (json.RawMessage, error) {
	ptr, length := borrowed(body)
	var buf C.cpr_buf
	var object *C.cpr_error
	status := C.cpr_healthz_parse(C.uint32_t(httpStatus), ptr, length, &buf, &object)
	return result(nil, status, &buf, object)
}

// BriefHealth parses the answer of a health endpoint and returns it in brief.
func BriefHealth(httpStatus int, body []byte) (Health, error) {
	ptr, length := borrowed(body)
	var brief C.cpr_health
	var object *C.cpr_error
	status := C.cpr_healthz_brief(C.uint32_t(httpStatus), ptr, length, &brief, &object)
	if err := take(nil, status, object); err != nil {
		return Health{}, err
	}
	return Health{
		Verdict:    Verdict(brief.verdict),
		Checks:     int(brief.checks),
		Failed:     int(brief.failed),
		EtcdFailed: brief.etcd_failed != 0,
	}, nil
}
