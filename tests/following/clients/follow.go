// Fetches each URL of the standard input with net/http and follows redirects. With
// FOLLOW_BODY in the environment it sends a POST with so many bytes.
package main

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
)

func fetch(url string, size int) (*http.Response, error) {
	if size == 0 {
		return http.Get(url)
	}
	return http.Post(url, "text/plain", strings.NewReader(strings.Repeat("x", size)))
}

func main() {
	size, _ := strconv.Atoi(os.Getenv("FOLLOW_BODY"))
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answer, err := fetch(lines.Text(), size)
		if err != nil {
			fmt.Fprintln(os.Stderr, lines.Text(), err)
			continue
		}
		answer.Body.Close()
	}
}
