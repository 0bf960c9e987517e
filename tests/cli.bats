#!/usr/bin/env bats
# Goal: the command line works as the man pages say, and reports what is wrong with it.
load helpers
bats_require_minimum_version 1.5.0

@test "--help prints to standard output and ends with status 0" {
  for program in "$enc" "$dec"; do
    for option in -h --help; do
      run -0 --separate-stderr "$program" $option
      [[ $output == "Usage: $(basename "$program") "* ]]
      [ -z "$stderr" ]
    done
  done
}

@test "--version names the program and the version" {
  run -0 --separate-stderr "$enc" --version
  [[ $output =~ ^uott-enc\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
  run -0 --separate-stderr "$dec" -V
  [[ $output =~ ^uott-dec\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
}

@test "wrong usage ends with status 2, shows the wrong text on standard error, and prints nothing on standard output" {
  wrong() {
    local text=$1
    shift
    run -2 --separate-stderr "$@"
    [ -z "$output" ] || fail "'$*' wrote to standard output: $output"
    [[ $stderr == *"$text"* ]] || fail "'$*' said: $stderr"
  }
  wrong "[HOST:]PORT" "$enc"
  wrong "HOST:PORT" "$dec"
  wrong "'53': expected HOST:PORT" "$dec" 53
  wrong "'-x'" "$enc" -x 53
  wrong "'--frobnicate'" "$dec" --frobnicate 127.0.0.1:53
  wrong "'-t'" "$dec" 127.0.0.1:53 -t
  wrong "'soon'" "$dec" -t soon 127.0.0.1:53
  wrong "'127.0.0.1:65536'" "$dec" 127.0.0.1:65536
  wrong "'::1:53'" "$dec" ::1:53
  wrong "'extra'" "$enc" 127.0.0.1 53 extra
  wrong "COMMAND" "$enc" 53 --
}

@test "a host that does not exist ends the program with status 1 and a message that names it" {
  run -1 "$dec" no-such-host.invalid:53 </dev/null
  [[ $output == *"no-such-host.invalid"* ]]
  run -1 "$enc" -u no-such-host.invalid:53
  [[ $output == *"no-such-host.invalid"* ]]
}

@test "a port in use ends the program with status 1 and a message with the address and the reason" {
  start_peer echo echo
  run -1 --separate-stderr "$enc" -u "127.0.0.1:$port"
  [[ $stderr == *"127.0.0.1:$port"*"in use"* ]]
  [ -z "$output" ]
}

@test "enc and dec refuse a terminal as standard output, and give a hint" {
  run -2 script -qec "$enc 0" /dev/null </dev/null
  [[ $output == *"standard output is a terminal"*"COMMAND"* ]]
  run -2 script -qec "$dec 127.0.0.1:53 </dev/null" /dev/null
  [[ $output == *"standard output is a terminal"*"ssh -T"* ]]
}

@test "dec refuses a terminal as standard input, and gives a hint" {
  run -2 script -qec "$dec 127.0.0.1:53 >out" /dev/null </dev/null
  [[ $output == *"standard input is a terminal"* ]]
}

@test "the programs report closed standard descriptors, and never use their numbers for sockets" {
  run -2 --separate-stderr bash -c "'$dec' 127.0.0.1:53 <&-"
  [[ $stderr == *"standard input is closed"* ]]
  run -2 --separate-stderr bash -c "'$enc' -u 0 >&-"
  [[ $stderr == *"standard output is closed"* ]]
  run -0 --separate-stderr bash -c "frame=1; printf 'UOTT\0\0\1\0x' | '$dec' -u 127.0.0.1:9 2>&-"
  [ -z "$output" ]
}

@test "if standard error is the same file as standard output, no message is printed" {
  printf 'noise UOTT\x01\x00\x01\x00x then garbage' >in
  run -1 --separate-stderr "$dec" 127.0.0.1:9 <in
  [[ $stderr == *corrupt* ]]
  status=0
  "$dec" 127.0.0.1:9 <in >both 2>&1 || status=$?
  expect_equal "$status" 1
  [ ! -s both ] || fail "wrote: $(cat both)"
}

@test "the address may be two words, with or without brackets around an IPv6 address" {
  start_peer echo echo ::1
  for words in "::1 $port" "[::1] $port" "[::1]:$port"; do
    # shellcheck disable=SC2086 # two words
    frame 7 hello | "$dec" -t 10 $words >out &
    pid=$!
    wait_until [ -s out ]
    kill $pid
    wait $pid
    frame 7 hello | cmp - out
    rm out
  done
}

@test "a port may be a service name" {
  run -1 "$dec" 127.0.0.1:no-such-service </dev/null
  [[ $output == *"no-such-service"* ]]
  run -0 "$dec" 127.0.0.1:domain </dev/null
}

@test "-6 refuses an IPv4 address, and -4 refuses an IPv6 address" {
  run -1 "$dec" -6 127.0.0.1:53 </dev/null
  run -1 "$dec" -4 "[::1]:53" </dev/null
}

@test "-q prints nothing when a signal ends the program" {
  start quiet "$enc" -q -u 127.0.0.1:0 -- sh -c 'echo >ready; exec cat >/dev/null'
  wait_until [ -s ready ]
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
  [ ! -s quiet.err ]
}

@test "-s prints the counters again and again, even with -q" {
  start enc "$enc" -q -s 0.05 -u 127.0.0.1:0
  shown_twice() { [ "$(grep -c '^uott-enc: udp_in=0 .* drop_pipe_closed=0$' enc.err)" -ge 2 ]; }
  wait_until shown_twice
}

@test "on a terminal -s rewrites one line of rates, and each message has its own line" {
  mkfifo keys
  exec 9<>keys
  script -qfec "echo \$\$ >>pids; exec '$enc' -s 0.05 -v -u 127.0.0.1:0 >stream" screen <keys >/dev/null 3>&- 9>&- &
  echo $! >>pids
  wait_until grep -q $'\r\033\\[Kflows 0, in 0 /s 0 B/s, out 0 /s 0 B/s, queued 0, dropped 0' screen
  printf hello | "$peer" post 127.0.0.1 "$(listening_port <(tr -d '\r' <screen))"
  wait_until grep -q $'\r\033\\[Kuott-enc: flow 0: 127.0.0.1:' screen
  wait_until grep -q $'\r\033\\[Kflows 1, in' screen
}

@test "-r without a COMMAND is wrong usage" {
  run -2 "$enc" -r 53
  [[ $output == *"-r needs a COMMAND"* ]]
}

@test "with *, a taken IPv6 port is an error: enc does not silently use IPv4 alone" {
  start_peer echo echo ::
  run -1 --separate-stderr "$enc" -u "*:$port"
  [[ $stderr == *"cannot listen on [::]:$port: Address "*"in use"* ]] # musl leaves out "already"
}
