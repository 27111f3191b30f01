// Fetches each URL of the standard input with net/http and follows redirects.
package main

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answer, err := http.Get(lines.Text())
		if err != nil {
			fmt.Fprintln(os.Stderr, lines.Text(), err)
			continue
		}
		answer.Body.Close()
	}
}
