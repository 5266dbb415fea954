// Recovers the node below ROOT: go run . ROOT
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	cprecover "github.com/cprecover/cprecover/cprecover-ffi/go"
)

func recoverNode(ctx context.Context, root string) (*cprecover.Report, error) {
	node, err := cprecover.Open(cprecover.WithRoot(root),
		cprecover.WithLog(cprecover.LevelInfo, func(_ cprecover.Level, _, line string) { log.Print(line) }))
	if err != nil {
		return nil, err
	}
	defer node.Close()
	return node.Recover(ctx, nil, cprecover.RecoverOptions{})
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	root := "/"
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	report, err := recoverNode(ctx, root)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(report.JSON))
	if !report.Healthy() {
		log.Fatalf("%s: the recovery ended %s", root, report.State)
	}
}
