# Completion of nuage-libnetwork's options and files in bash; needs nothing but bash itself.

_nuage_libnetwork() {
    local at=$COMP_CWORD word before dash=
    word=${COMP_WORDS[at]}
    # bash takes -config=FILE for three words
    [ "$word" != = ] || word=
    [ "${COMP_WORDS[at - 1]}" != = ] || at=$((at - 1))
    before=${COMP_WORDS[at - 1]}
    COMPREPLY=()
    case ${before/#--/-} in
        -config)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return ;;
        -version | -help | -h) return ;;
    esac
    case $word in --*) dash=- ;; esac
    mapfile -t COMPREPLY < <(compgen -P "$dash" -W '-config -check -audit -health -version -help' -- "${word#"$dash"}")
}
complete -F _nuage_libnetwork nuage-libnetwork
