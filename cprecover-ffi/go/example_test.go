package cprecover_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	cprecover "github.com/cprecover/cprecover/cprecover-ffi/go"
)

// A health answer in brief.
func ExampleBriefHealth() {
	brief, err := cprecover.BriefHealth(500, []byte("[+]ping ok\n[-]etcd failed: reason withheld\nhealthz check failed\n"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(brief.Checks, brief.Failed, brief.EtcdFailed)
	// Output: 2 1 true
}

// Errors have a kind, and often the operating system's error behind it.
func ExampleError() {
	_, err := cprecover.LoadPolicy("/nonexistent/policy.wasm", cprecover.PolicyOptions{})
	var failure *cprecover.Error
	fmt.Println(errors.Is(err, cprecover.ErrNotFound), errors.Is(err, os.ErrNotExist), errors.As(err, &failure))
	// Output: true true true
}

// Any structured logger takes the lines; with log/slog it is three lines.
func ExampleWithLog() {
	node, err := cprecover.Open(cprecover.WithRoot("/nonexistent"),
		cprecover.WithLog(cprecover.LevelDebug, func(level cprecover.Level, target, message string) {
			log.Printf("level=%d target=%s %s", level, target, message)
		}))
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
}

// A recovery with a time limit; what the node looks like in the end is in the report.
func ExampleNode_Recover() {
	node, err := cprecover.Open()
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	report, err := node.Recover(ctx, nil, cprecover.RecoverOptions{})
	switch {
	case errors.Is(err, cprecover.ErrBusy):
		fmt.Println("another engine works on this node")
	case errors.Is(err, context.DeadlineExceeded):
		fmt.Println("time is up, the node is", report.State)
	case err != nil:
		log.Fatal(err)
	default:
		fmt.Println(report.State)
	}
}
