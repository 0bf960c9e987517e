#!/usr/bin/env bats
# Goal: nothing leaks, and nothing is read that was not written. With SAN=1 the sanitizers look on
# instead of valgrind, which cannot run their programs.
load helpers
bats_require_minimum_version 1.5.0

# Prints the words that run a program under valgrind. Its findings go to NAME.PID.
watched() { # NAME
  has_sanitizers || echo valgrind -q --error-exitcode=99 --leak-check=full \
    --show-leak-kinds=all --errors-for-leak-kinds=all --track-fds=yes --log-file="$PWD/$1.%p"
}

# no_findings NAME: no block of text but on descriptors that were inherited, and on the pipe for
# signals, which is there for the life of the program.
no_findings() {
  ! cat "$1".[0-9]* | sed 's/^==[0-9]*== *//' |
    awk -v RS= '!/^(Open|FILE DESCRIPTORS)/ || (/^Open/ && !/inherited|signals_open/)' | grep .
}

# bats test_tags=preload
@test "a forward, a retry, flows that expire, and an end leak no memory and no descriptor" {
  start_peer echo echo
  target=$port
  # shellcheck disable=SC2046 # words
  start_listening enc $(watched enc-log) "$enc" -v -i 1 -t 5 -r0.05 127.0.0.1:0,127.0.0.1:0 -- \
    sh -c 'echo $$ >>runs; exec "$@"' sh $(watched dec-log) "$dec" --no-sandbox -v -i 1 "127.0.0.1:$target,localhost:$target"
  answers() { [ "$(printf two | timeout 2 "$peer" send 127.0.0.1 "$port")" = two ]; }
  wait_until answers # dec starts slowly here, and what waits for 1 s is dropped
  "$peer" clients 200 127.0.0.1 "$port"
  wait_until said enc.err "uott-enc: flow 65535: expired"
  kill "$(head -n 1 runs)"
  wait_until said enc.err "running it again"
  wait_until answers
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
  no_findings enc-log
  no_findings dec-log
}
