# Completion of fish for uott-enc, uott-dec and uott-carry. The options are those of --help.
function __uott_complete
    set -l words (commandline -opc)
    set -l at 2
    # COMMAND follows "--". TRANSPORT of uott-carry follows its options.
    if string match -q '*uott-carry' -- $words[1]
        while string match -q -- '-*' $words[$at]
            set at (math $at + 1)
        end
    else if contains -i -- -- $words >/dev/null
        set at (math (contains -i -- -- $words) + 1)
    else
        set at 1000
    end
    set -l word (commandline -ct)
    if test $at -le (math (count $words) + 1); and not string match -q -- '-*' $word
        complete -C (string join ' ' -- (string escape -- $words[$at..]) $word)
        return
    end
    $words[1] --help 2>/dev/null | awk '/^ +-/ {
        sub(/^ +/, ""); text = $0; sub(/  .*/, ""); sub(/^.*  +/, "", text); gsub(/\[=[A-Z]+\]/, ""); gsub(/=[A-Z]+/, "=")
        count = split($0, option, ", "); for (n = 1; n <= count; n++) print option[n] "\t" text }'
end
for program in uott-enc uott-dec uott-carry
    complete -c $program -f -a '(__uott_complete)'
end
