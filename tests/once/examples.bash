# What the tests of the scripts in examples/ share.

examples=$BATS_TEST_DIRNAME/../../examples

# start_example SCRIPT ARG...: its output goes to example.out and example.err.
start_example() {
  local script=$1
  shift
  start example env "PATH=$BATS_FILE_TMPDIR/bin:$BUILD:$PATH" "$examples/$script" "$@"
}

# explains_itself SCRIPT [WORD]: with -h. The usage shows the script, with WORD behind it. Other arguments
# than it takes are wrong usage.
explains_itself() {
  run -0 --separate-stderr "$examples/$1" -h
  expect_equal "$stderr" ""
  [[ $output == *"  $1 ${2:+$2 }"* ]]
  usage=$output
  for arguments in "" "-x host 1 2" "a b c d e f"; do
    # shellcheck disable=SC2086 # words
    run -2 --separate-stderr "$examples/$1" $arguments
    expect_equal "$output" ""
    expect_equal "$stderr" "$usage"
  done
}
