#!/usr/bin/env bats
# Goal: clients come and go and COMMAND is killed at random, for SOAK_SECONDS (10). After that clients
# still get replies, and the counters add up.
load helpers
bats_require_minimum_version 1.5.0

# Whether the sums in a line of counters are right, for all that came in and for all flows.
adds_up() { # LINE
  awk -v line="$1" 'BEGIN {
    count = split(line, words, " ")
    for (i = 1; i <= count; i++)
      if (split(words[i], pair, "=") == 2)
        n[pair[1]] = pair[2]
    out = n["frames_out"] + n["queued"] + n["drop_queue_full"] + n["drop_stale"] + n["drop_codel"] \
      + n["drop_no_tag"] + n["drop_pipe_closed"]
    sent = n["udp_out"] + n["drop_too_big"] + n["drop_send_failed"] + n["drop_no_flow"] \
      + n["drop_no_socket"]
    flows = n["flows"] + n["expired"] + n["evicted"] + n["closed"]
    exit n["udp_in"] != out || n["frames_in"] != sent || n["flows_total"] != flows
  }'
}

all_add_up() { # FILE
  local line
  while read -r line; do
    adds_up "$line" || fail "does not add up: $line"
  done < <(grep 'udp_in=' "$1")
}

one_round() {
  for _ in 1 2 3; do
    timeout 3 "$peer" clients $((RANDOM % 200 + 1)) 127.0.0.1 "$1" >/dev/null 2>&1 &
    echo $! >>pids
  done
  "$peer" blast $((RANDOM % 2000)) $((RANDOM % 1400 + 20)) 127.0.0.1 "$1" || :
  "$load" send -g -t 0.02 -d 0.02 -s $((RANDOM % 1400 + 64)) 127.0.0.1 "$1" >/dev/null || :
  case $((RANDOM % 4)) in
    0) kill -9 "$(tail -n 1 runs)" ;;
    1) kill "$(tail -n 1 runs)" ;;
    2) kill -STOP "$(tail -n 1 runs)" && pause && kill -CONT "$(tail -n 1 runs)" ;;
  esac 2>/dev/null || :
  pause
}

@test "the counters add up while clients come and go and COMMAND is killed at random" {
  start_peer echo echo
  : >runs
  # shellcheck disable=SC2016 # for sh
  start_enc enc -i 0.5 -r0.3 0 -- sh -c 'echo $$ >>runs; exec "$@"' sh "$dec" -v -i 0.3 "127.0.0.1:$port"
  port=$(listening_port enc.err)
  enc_pid=$pid
  end=$((SECONDS + ${SOAK_SECONDS:-10}))
  until [ "$SECONDS" -ge "$end" ]; do
    one_round "$port"
    kill -USR1 "$enc_pid"
  done
  is_served() { [ "$(timeout 1 "$peer" send 127.0.0.1 "$port" <<<served)" = served ]; }
  wait_until is_served
  kill "$enc_pid"
  finish "$enc_pid"
  expect_equal "$status" 0
  all_add_up enc.err
  [ "$(grep -c '^uott-enc: udp_in=' enc.err)" -gt 2 ]
  [ "$(grep -c '^uott-dec: udp_in=' enc.err)" -ge 1 ]
  [ "$(counter <(grep uott-enc: enc.err) retries)" -ge 2 ]
  expect_not_said enc.err corrupt
}
