#!/usr/bin/env bats
# Goal: what a stranger can cost has a bound: memory, descriptors, bytes, lines in the log, runs of COMMAND.
# SECURITY.md has the table.
load helpers
bats_require_minimum_version 1.5.0

# start_unread PROGRAM [ARG]...: starts it as "it". The test writes to its input (descriptor 8), and
# nobody reads its output (descriptor 9).
start_unread() {
  mkfifo in out
  exec 8<>in 9<>out
  # shellcheck disable=SC2016 # for bash
  start it bash -c 'exec "$@" <in >out' bash "$@"
}

# each_tag BEFORE [AFTER]: prints BEFORE, the two bytes of a tag and AFTER, for all tags.
each_tag() {
  LC_ALL=C awk -v before="$1" -v after="${2:-}" 'BEGIN {
    for (tag = 65535; tag >= 0; tag--)
      printf "%s%c%c%s", before, tag % 256, tag / 256, after
  }'
}

frame_of_each_tag() {
  each_tag UOTT '\001\000x'
}

# expect_memory_below KIB: of $pid, at any time. Sanitizers take more.
expect_memory_below() {
  local peak
  peak=$(awk '/^VmHWM/ {print $2}' "/proc/$pid/status")
  has_sanitizers || [ "$peak" -lt "$1" ] || fail "it took $peak KiB, expected less than $1"
}

# messages_since SECONDS TEXT: prints how often a cause may have been told since then, by a program
# that has ended.
messages_since() {
  echo $((2 + (SECONDS - $1) / 10))
}

@test "a far side that floods frames, and reads none, costs the queue of 4 MiB, and no more" {
  start_peer echo echo
  start_unread "$dec" -l 0 "127.0.0.1:$port"
  printf 'UOTT\0\0\x60\xea%060000d' {1..600} >&8 # 36 MB
  wait_until counted frames_in 600 it
  wait_until said it.err "the queue is full"
  expect_memory_below 9000
}

@test "a far side that floods replies to a client that does not read costs no memory" {
  start_unread "$enc" -v 127.0.0.1:0
  wait_until said it.err "listening on"
  exec 7<>"/dev/udp/127.0.0.1/$(listening_port it.err)"
  printf hello >&7
  wait_until counted flows 1 it
  printf 'UOTT\xff\xff\x60\xea%060000d' {1..600} >&8
  wait_until counted frames_in 600 it
  expect_memory_below 9000
  exec 7>&-
}

# uses_all_tags FLOWS COMMAND...: feeds dec with a frame of each tag.
uses_all_tags() {
  local flows=$1
  shift
  rm -f in out
  start_unread "$@" 127.0.0.1:9
  frame_of_each_tag >&8
  wait_until counted frames_in 65536 it
  expect_equal "$(counter it.err flows_peak)" "$flows"
  expect_equal "$(($(counter it.err flows_total) + $(counter it.err drop_no_socket)))" 65536
  [ "$(find "/proc/$pid/fd" -lname 'socket:*' | wc -l)" -le "$flows" ]
  expect_memory_below 9000
}

@test "a far side that uses all tags gets as many flows as -n says, or as descriptors are there, less 16" {
  uses_all_tags 100 "$dec" -n 100
  # shellcheck disable=SC2016 # for bash
  uses_all_tags 284 bash -c 'ulimit -n 300; exec "$@"' bash "$dec"
}

@test "PING after PING costs few bytes of answers" {
  { frame 65535 x && printf 'UOTC\1\0\2\0\1\0' && printf 'UOTC\4\0\0\0%.0s' {1..200000}; } >stream
  "$dec" -t 0 127.0.0.1:9 <stream >answers
  [ "$(wc -c <answers)" -lt 100000 ]
}

@test "PING and CLOSE without end cost no memory when nobody reads the answers" {
  start_unread "$dec" 127.0.0.1:9
  { frame 65535 x && printf 'UOTC\1\0\2\0\1\0'; } >&8
  for _ in 1 2 3 4; do
    printf 'UOTC\4\0\0\0%.0s' {1..50000} >&8
    each_tag 'UOTC\003\000\002\000' >&8
  done
  frame 65534 last >&8
  wait_until counted frames_in 2 it
  expect_memory_below 10000
}

@test "clients that open flows at will get as many as -n says, and the refusals are told once in 10 s" {
  began=$SECONDS
  start_peer echo echo
  start_enc enc -n 100 0.0.0.0:0 -- "$dec" "127.0.0.1:$port"
  "$peer" crowd 2000 "$(listening_port enc.err)"
  wait_until counted flows_total 100
  expect_equal "$(counter enc.err drop_no_tag)" "$(($(counter enc.err udp_in) - 100))"
  kill "$pid"
  finish "$pid"
  [ "$(grep -c "no flow is free" enc.err)" -le "$(messages_since "$began")" ]
}

@test "a target that answers without end leaves another client its replies" {
  start_peer echo echo
  echo_port=$port
  start source "$load" source -r 2000 -t 60 -d 0
  wait_until said source.out "port "
  start_enc enc 127.0.0.1:0,127.0.0.1:0 -- "$BUILD/tests/slowpipe" -r 8000000 -b 20000 \
    "$dec" -l 0 "127.0.0.1:$(sed -n 's/^port //p' source.out),127.0.0.1:$echo_port"
  mapfile -t ports < <(sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' enc.err)
  start asker "$load" send -r 1 -t 60 -d 0 127.0.0.1 "${ports[0]}"
  wait_until said enc.err "uott-dec: dropped"
  for i in {1..20}; do expect_equal "$(ask "${ports[1]}" "$i")" "$i"; done
}

@test "noise and drops without end fill no log" {
  began=$SECONDS
  { yes $'\1' | head -c 60000 && frame_of_each_tag; } | "$dec" -t 0 -n 1 127.0.0.1:9 >out 2>err
  expect_said err "skipped 60000 bytes that are no frame"
  expect_said err "no socket could be opened"
  [ "$(wc -l <err)" -le $((1 + 2 * $(messages_since "$began"))) ]
  [ "$(wc -c <err)" -lt 1500 ]
}

has_waited() { # TENTHS COUNT: whether so many waits took so many tenths of a second
  [ "$(grep -c "running it again in 0.$1 s" dec.err)" -ge "$2" ]
}

# bats test_tags=preload
@test "with -r, a far side that ends after a frame waits longer each time, and not after a run of 1 s" {
  start_with_clock dec "$dec" -r 127.0.0.1:9 -- sh -c '
    printf "UOTT\0\0\1\0x"
    [ ! -e stay ] || { echo >stays; until [ -e end ]; do sleep 0.01; done; }'
  wait_until has_waited '[678]' 1
  before=$(grep -c "again in 0.1 s" dec.err)
  : >stay
  wait_until [ -e stays ]
  move_clock 2
  : >end
  wait_until has_waited 1 $((before + 1))
}
