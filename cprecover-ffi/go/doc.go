// Package cprecover brings a kubeadm-style Kubernetes control-plane node back when kubectl no longer
// answers. It wraps the C library of the same name, which it finds by -lcprecover and <cprecover.h>;
// set CGO_CFLAGS and CGO_LDFLAGS when they are not installed in a standard place.
//
// Results are JSON whose "schema" names what they are.
//
// A Node may be used by many goroutines. Calls that change the node run alone: while one runs, others fail
// with ErrBusy. A context ends a call early; the error is then context.Canceled or
// context.DeadlineExceeded for errors.Is.
package cprecover
