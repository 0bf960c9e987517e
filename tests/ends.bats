#!/usr/bin/env bats
# Goal: each program ends quietly and completely, its exit status says why, and nothing is left behind.
load helpers
bats_require_minimum_version 1.5.0

@test "enc ends with status 0 when the far side closes, and suggests -u if no byte has come" {
  run -0 --separate-stderr bash -c ": | '$enc' 127.0.0.1:0 >stream"
  [[ $stderr == *"-u"* ]]
  mkfifo back
  exec 9<>back
  start_enc enc 0 <back
  exec 9>back
  printf one | "$peer" post 127.0.0.1 "$port"
  wait_until has_bytes enc.out 11
  cat enc.out >&9
  exec 9>&-
  finish "$pid"
  expect_equal "$status" 0
  expect_not_said enc.err "-u"
}

@test "enc without a way back says so once and goes on, one way" {
  start_enc enc 0 </dev/null
  expect_equal "$(grep -c 'one way, as with -u' enc.err)" 1
  printf one | "$peer" post 127.0.0.1 "$port"
  wait_until has_bytes enc.out 11
  frame 0 one | cmp - enc.out
  start_enc closed 0 <&-
  expect_said closed.err "one way, as with -u"
  script -qec "echo \$\$ >>pids; exec '$enc' -v 0 >tty.out 2>tty.err" /dev/null </dev/zero >/dev/null 3>&- &
  echo $! >>pids
  wait_until said tty.err "one way, as with -u"
}

@test "dec waits for late replies when its input ends" {
  start_peer hold hold
  hold=$port
  frame 1 question >stream
  start dec "$dec" -t 1000 "127.0.0.1:$hold" <stream
  wait_until said hold.out held
  printf release | "$peer" post 127.0.0.1 "$hold"
  wait_until has_bytes dec.out 16
  cmp stream dec.out
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
}

@test "dec ends after the linger time" {
  start_peer hold hold
  frame 1 question | "$dec" -t 0 "127.0.0.1:$port" >out
  frame 1 question | "$dec" -t 0.1 "127.0.0.1:$port" >out
  [ ! -s out ]
}

@test "dec without flows ends at once when its input ends" {
  "$dec" -t 1000 127.0.0.1:9 </dev/null
}

@test "dec -u ends at once when it has sent the last datagram" {
  start_peer sink collect 1 got
  frame 0 last | "$dec" -t 1000 -u "127.0.0.1:$port"
  finish "$pid"
  expect_equal "$(cat got)" last
}

@test "when their reader closes, enc and dec end at once with status 0 and one line, even without a datagram" {
  mkfifo in
  exec 9<>in
  for program in "$enc -u 127.0.0.1:1${RANDOM: -4}" "$dec 127.0.0.1:9"; do
    # The reader of its output ends as soon as the program runs; its input stays open.
    # shellcheck disable=SC2086 # words
    { $program 2>err && echo $? >status; } <&9 3>&- | wait_until pgrep -f "$program"
    expect_equal "$(cat status)" 0
    expect_said err "nobody reads the frames any more"
    expect_equal "$(wc -l <err)" 1
    rm status
  done
}

@test "dec delivers all frames that came before the end, even if nobody reads the replies" {
  start_peer sink collect 2 got
  { frame 0 one && frame 1 two; } >stream
  "$dec" "127.0.0.1:$port" <stream | :
  finish "$pid"
  expect_equal "$(cat got)" onetwo
}

@test "SIGINT, SIGTERM and SIGHUP end enc and dec with status 0" {
  mkfifo in
  exec 9<>in
  for signal in TERM HUP INT; do
    start_enc_with_default_signals
    kill -$signal "$pid"
    finish "$pid"
    expect_equal "$status" 0
    start dec env --default-signal=INT,HUP "$dec" -v 127.0.0.1:9 <in
    frame 0 x >&9
    wait_until said dec.err 'flow 0'
    kill -$signal "$pid"
    finish "$pid"
    expect_equal "$status" 0
  done
}

# A shell without job control starts background programs with SIGINT ignored.
start_enc_with_default_signals() {
  start enc env --default-signal=INT,HUP "$enc" -v -u 0
  wait_until said enc.err "listening on"
}

@test "a signal that was ignored at the start stays ignored" {
  start_listening enc bash -c "trap '' HUP; exec '$enc' -v -u 0"
  kill -HUP "$pid"
  printf one | "$peer" post 127.0.0.1 "$port"
  wait_until has_bytes enc.out 11
}

@test "SIGPIPE does not end enc" {
  start_enc enc -u 0
  kill -PIPE "$pid"
  printf one | "$peer" post 127.0.0.1 "$port"
  wait_until has_bytes enc.out 11
}

@test "enc and dec end with the exit status of COMMAND" {
  run -3 "$enc" 127.0.0.1:0 -- sh -c 'exit 3'
  run -3 "$dec" 127.0.0.1:9 -- sh -c 'exit 3'
  run -3 "$enc" -u 127.0.0.1:0 -- sh -c 'exit 3'
  run -0 "$enc" -u 127.0.0.1:0 -- true
  run -0 "$dec" 127.0.0.1:9 -- true
  run -137 "$enc" 127.0.0.1:0 -- sh -c 'kill -9 $$'
  run -127 "$enc" 127.0.0.1:0 -- no-such-command
  [[ $output == *"'no-such-command'"* ]]
  run -126 "$enc" 127.0.0.1:0 -- /dev/null
  run -126 "$dec" 127.0.0.1:9 -- /
}

@test "if the far side ends first, one line says so, but not with -q" {
  run -0 --separate-stderr "$enc" -u 127.0.0.1:0 -- true
  expect_equal "${stderr_lines[1]}" "uott-enc: 'true' ended with status 0"
  run -0 --separate-stderr "$enc" -q -u 127.0.0.1:0 -- true
  expect_equal "$stderr" ""
  "$enc" -u 127.0.0.1:0 2>err | :
  expect_said err "nobody reads the frames any more"
  "$enc" -q -u 127.0.0.1:0 2>err | :
  [ ! -s err ]
}

@test "enc ends when COMMAND ends, even if another process still holds its pipes" {
  run -3 "$enc" 127.0.0.1:0 -- sh -c 'sleep 1000 2>/dev/null & echo $! >orphan; exit 3'
  kill "$(cat orphan)"
}

# bats test_tags=preload
@test "if memory is short, COMMAND does not run on the standard input and output of enc" {
  run -1 --separate-stderr env LD_PRELOAD="$BUILD/tests/nomemory.so" \
    ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0" "$enc" 127.0.0.1:0 -- echo hello
  expect_equal "$output" ""
  [[ $stderr == *"cannot run 'echo': Cannot allocate memory"* ]]
}

@test "COMMAND runs without a shell, in the same process group, with the same standard error" {
  run -0 --separate-stderr "$enc" -q -u 127.0.0.1:0 -- sh -c 'echo $(ps -o pgid= -p $$) $(ps -o pgid= -p $PPID) >&2; echo "$1" >&2' sh '$HOME; echo no'
  # shellcheck disable=SC2086 # two words
  expect_equal ${stderr_lines[0]}
  expect_equal "${stderr_lines[1]}" '$HOME; echo no'
}

@test "COMMAND starts with the default action of SIGPIPE" {
  run -141 --separate-stderr "$enc" -q 127.0.0.1:0 -- sh -c 'kill -PIPE $$; echo alive >&2'
  [[ $stderr != *alive* ]]
}

@test "when a signal ends enc, enc first closes the input of COMMAND" {
  start_enc enc 0 -- sh -c 'cat >/dev/null; echo closed >end'
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
  expect_equal "$(cat end)" closed
}

@test "a COMMAND that does not end by itself gets SIGTERM after the linger time" {
  start_enc enc -t 0.1 0 -- sh -c 'trap "echo asked >end; exit" TERM; while :; do read -r _; done'
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
  expect_equal "$(cat end)" asked
}

@test "a COMMAND that ignores SIGTERM is killed, and no process is left" {
  start_enc enc -t 0 0 -- sh -c 'trap "" TERM; echo $$ >command; while :; do read -r _; done'
  wait_until [ -s command ]
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
  run ! kill -0 "$(cat command)"
}

@test "when SIGKILL ends enc, COMMAND and dec end too" {
  start_peer echo echo
  start_enc enc 0 -- sh -c "echo \$\$ >command; exec '$dec' 127.0.0.1:$port"
  expect_equal "$(ask "$port" hello)" hello
  kill -9 "$pid"
  wait_until is_gone "$(cat command)"
}

@test "when SIGKILL ends dec, enc ends with its status" {
  start_enc enc 0 -- sh -c "echo \$\$ >command; exec '$dec' 127.0.0.1:9"
  wait_until [ -s command ]
  kill -9 "$(cat command)"
  finish "$pid"
  expect_equal "$status" 137
}

@test "enc changes no flag of the descriptors that it shares with other processes" {
  mkfifo in out
  exec 8<>out 9<>in
  flags() { awk '/^flags/ {print $2}' "/proc/$BASHPID/fdinfo/$1"; }
  before="$(flags 8) $(flags 9)"
  "$enc" -v 127.0.0.1:0 <&9 >&8 2>err 3>&- 8>&- 9>&- &
  pid=$!
  wait_until said err listening
  expect_equal "$(flags 8) $(flags 9)" "$before"
  kill $pid
  finish $pid
  expect_equal "$(flags 8) $(flags 9)" "$before"
}

@test "regular files and /dev/null work as standard input and output" {
  start_peer echo echo
  frame 1 hello >stream
  "$dec" -t 1000 "127.0.0.1:$port" <stream >replies &
  pid=$!
  wait_until has_bytes replies 13
  kill $pid
  wait $pid
  cmp stream replies
  "$dec" -t 0 "127.0.0.1:$port" <stream >/dev/null
  "$dec" -u "127.0.0.1:$port" </dev/null >/dev/null
}

@test "when COMMAND ends, dec delivers its last frames, even if many sockets are ready" {
  start_peer sink collect 1000000 got
  target=$port
  cat >frames.sh <<'END'
i=0
while [ $i -lt 300 ]; do
  printf "UOTT\\$(printf %03o $((i % 256)))\\$(printf %03o $((i / 256)))\004\000LAST"
  i=$((i + 1))
done
END
  "$dec" -t 10 "127.0.0.1:$target" -- sh ./frames.sh
  wait_until has_bytes got 1200
}

@test "a file that cannot grow is an error at once" {
  status=0
  bash -c "ulimit -f 8; exec '$enc' -v -u 127.0.0.1:0" >capture 2>enc.err 3>&- &
  pid=$!
  echo "$pid" >>pids
  wait_until said enc.err "listening on"
  "$peer" blast 30 1200 127.0.0.1 "$(listening_port enc.err)" || : # enc may be gone by then
  finish "$pid"
  expect_equal "$status" 1
  expect_said enc.err "cannot write frames: File too large"
  "$enc" -v -u 127.0.0.1:0 >/dev/full 2>full.err 3>&- &
  pid=$!
  echo "$pid" >>pids
  wait_until said full.err "listening on"
  "$peer" blast 1 10 127.0.0.1 "$(listening_port full.err)"
  finish "$pid"
  expect_equal "$status" 1
  expect_said full.err "cannot write frames: No space left on device"
}

# ctrl_c: sends SIGINT to enc and its COMMAND. enc hears of both at once.
ctrl_c() {
  local command_pid
  command_pid=$(pgrep -P "$pid")
  kill -STOP "$pid"
  wait_until in_state T "$pid"
  kill -INT -- "-$pid"
  wait_until in_state Z "$command_pid"
  kill -CONT "$pid"
}

@test "a ^C that also ends COMMAND is no error, even inside a frame" {
  for datagrams in 0 5; do
    start_listening enc setsid env --default-signal=INT "$enc" -v 0 -- sleep 1000
    for ((i = 0; i < datagrams; i++)); do
      head -c 30000 /dev/zero | "$peer" post 127.0.0.1 "$port"
    done
    kill -USR1 "$pid"
    wait_until said enc.err "udp_in=$datagrams "
    ctrl_c
    finish "$pid"
    expect_equal "$status" 0
    expect_not_said enc.err "inside a frame"
  done
}

@test "enc ends with the status of a COMMAND that has stopped reading" {
  start_enc enc -t 30 0 -- sh -c 'exec <&-; echo >ready; until [ -e end ]; do :; done; for i in 1 2 3 4 5 6 7 8 9; do printf "UOTT\377\377\001\000x"; done; exit 5'
  wait_until [ -s ready ]
  : >end
  finish "$pid"
  expect_equal "$status" 5
}

@test "enc ends with the status of COMMAND, even if a frame was cut" {
  start_enc enc -l 0 0 -- sh -c 'until [ -e end ]; do :; done; exit 5'
  for _ in 1 2 3 4 5; do head -c 30000 /dev/zero | "$peer" post 127.0.0.1 "$port"; done
  kill -USR1 "$pid"
  wait_until said enc.err "udp_in=5 "
  : >end
  finish "$pid"
  expect_equal "$status" 5
  expect_not_said enc.err "frame was cut"
}

@test "late replies leave at once, even if the far side can acknowledge nothing any more" {
  start_peer echo echo
  mkfifo in
  exec 9<>in
  start dec "$dec" -v -t 1000 "127.0.0.1:$port" <in
  frame 65535 x >&9
  wait_until has_bytes dec.out $((10 + 16 + 9))
  printf 'UOTC\1\0\2\0\1\0UOTC\2\0\10\0\21\0\0\0\0\0\0\0' >&9 # HELLO, and ACK of 17 bytes
  for i in $(seq 65534 -1 65515); do frame "$i" "$(printf 'x%.0s' {1..1000})"; done >&9
  exec 9>&-
  wait_until has_bytes dec.out $((20 * 1008))
}

@test "an ACK that is still due at the end is not written to the closed pipe" {
  start_peer echo echo
  start_enc enc 0 -- "$dec" "127.0.0.1:$port"
  expect_equal "$(ask "$port" hello)" hello
  kill "$pid"
  finish "$pid"
  expect_equal "$status" 0
  expect_not_said enc.err "cannot write"
}

@test "a COMMAND whose input is closed, as docker does without -i, is an error with a hint" {
  # shellcheck disable=SC2016 # for sh
  run -1 "$enc" 127.0.0.1:0 -- sh -c '"$1" 127.0.0.1:9 </dev/null' sh "$dec"
  [[ $output == *"had not sent a byte: docker, podman and kubectl need -i"* ]]
}

@test "-v says once that the far side is there, and not before" {
  start_peer echo echo
  start_enc enc 0 -- "$dec" "127.0.0.1:$port"
  expect_not_said enc.err "uott-enc: the first frame has come"
  expect_equal "$(ask "$port" hello)" hello
  expect_equal "$(ask "$port" again)" again
  expect_equal "$(grep -c "uott-enc: the first frame has come from the far side" enc.err)" 1
}

@test "a terminal that echoes our frames ends the first one: the message tells the cure" {
  # shellcheck disable=SC2016 # for script
  start_enc enc 0 -- sh -c 'head -c 13 >echoed; printf "UOTT\377\377\5^@hello"'
  printf hello | "$peer" post 127.0.0.1 "$port"
  finish "$pid"
  expect_equal "$status" 1
  expect_said enc.err "the first one: is a terminal in the pipe? use ssh -T"
}
