# shellcheck shell=sh
# Written by source-routing and lost at its next run; see source-routing --help.
#
# Sourced by the hooks of network managers, with -eu set, under any POSIX shell.
# A NIC whose file in /etc/source-routing/nics still fits is restored by replaying that
# file's lines: one ip process a family, both at once, no Python.  Whatever does
# not fit goes to `source-routing apply`, in the background: a hook delays no
# ifup, and dhclient has not even written its lease yet when it calls hooks.

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
# By its path: busybox sh would run an ip of its own, which knows no -batch.
for ip in /usr/sbin/ip /sbin/ip /usr/bin/ip /bin/ip; do
    if [ -x "$ip" ]; then
        break
    fi
done

# Words are split here at blanks, but never matched with the names of files.
set -f

nics='/etc/source-routing/nics'
state=/run/source-routing
handed_over=''
# Seconds that a manager may need after its hook until the interface is complete.
patience=0
newline='
'

# A line to the journal: severity, text.
say() {
    logger -t source-routing -p "daemon.$1" -- "$2" 2>/dev/null ||
        printf 'source-routing: %s\n' "$2" >&2
}

# Sets nic to the interface behind a manager's name for it; fails when there is none.
find_nic() {
    nic=${1%%:*}
    case $nic in
    '' | lo | -* | . | .. | *[!A-Za-z0-9_.@+-]*) return 1 ;;
    esac
}

# Sets what the plan knows of $nic; fails when that is nothing.
load() {
    addresses='' rp_filter='' advertised='' outlived4='' gateway4='' gateway6='' up4='' up6='' down4='' down6=''
    [ -f "$nics/$nic" ] || return 1
    # shellcheck source=/dev/null
    . "$nics/$nic"
}

# Whether an apply is under way that may have looked at the kernel before this event.
is_busy() {
    [ -s "$state/lock" ]
}

# Sets misfit when another plan for $nic than the one that was loaded is there or on its
# way: what has been done since may be what an apply has taken away a moment before.
mind_an_apply() {
    loaded=$up4$up6
    if is_busy || ! load || [ "$up4$up6" != "$loaded" ]; then
        misfit='an apply was under way'
    fi
}

# Whether the plan has the address $1, with or without its prefix length.
is_known() {
    case " $addresses" in
    *" ${1%%/*}/"*) ;;
    *) return 1 ;;
    esac
}

# Runs the lines of both families at once, and prints what is there to compare.
# For $(...), which ends when both have: it reads until nobody can write.
run_up() {
    if [ -n "$up6" ]; then
        "$ip" -6 -o -force -batch - <<END &
address show dev $nic scope global
neighbour show dev $nic nud failed
route show default dev $nic
$up6
END
    fi
    if [ -n "$up4" ]; then
        exec "$ip" -4 -o -force -batch - <<END
address show dev $nic scope global
route show default dev $nic
$up4
END
    fi
}

# Replays the NIC's lines and sets misfit to what does not fit them, or ''.
# $1: the families of this event (4, 6 or 46), whose addresses must all be there.
replay() {
    if [ -n "$rp_filter" ] && [ -e "/proc/sys/net/ipv4/conf/$nic/rp_filter" ]; then
        printf '%s\n' "$rp_filter" >"/proc/sys/net/ipv4/conf/$nic/rp_filter"
    fi
    told=$(run_up 2>&1) || : # a rule that is there already is a failure to ip
    misfit='' absent=" $addresses " seen4='' seen6='' best6='' failed=' '
    IFS=$newline
    for line in $told; do
        IFS=' '
        case $line in
        'RTNETLINK answers: File exists' | 'Command failed -:'*) ;; # the rule is there
        *' dadfailed '*) ;; # somebody else has it: as good as not there
        [0-9]*": $nic "*) read_address "$line" ;;
        'default '*) read_default "$line" ;;
        *:*' FAILED'*) failed="$failed${line%% *} " ;;
        *) misfit="ip says \"$line\"" ;;
        esac
    done
    unset IFS
    differs "$gateway4" "$seen4" || differs "$gateway6" "$seen6" || misses "$1" || :
    mind_an_apply
}

# Takes one line of `ip -o address` off the list of absent ones.
read_address() {
    # shellcheck disable=SC2086 # to be split at blanks
    set -- $1
    case ${5:-} in
    peer) seen=$4/${6##*/} ;;
    *) seen=$4 ;;
    esac
    case $absent in
    *" $seen "*) absent="${absent%%" $seen "*} ${absent#*" $seen "}" ;;
    *)
        case $* in
        *' tentative'*) ;; # nobody may use it yet; when its time comes, there is an event
        *) misfit="$seen is new" ;;
        esac
        ;;
    esac
}

# Notes the gateways of one line of `ip -o route`; of IPv6, where each router that
# advertises itself has one, only those that the kernel likes best (RFC 4191 3.2).
read_default() {
    # shellcheck disable=SC2086 # to be split at blanks
    set -- $1
    routers='' metric=0 preference=1 dead=0
    while [ $# -gt 1 ]; do
        case $1:$2 in
        via:*:*)
            routers="$routers $2"
            case $failed in
            *" $2 "*) dead=1 ;;
            esac
            ;;
        via:*)
            case " $outlived4 " in
            *" $2 "*) ;;
            *) seen4="$seen4 $2" ;;
            esac
            ;;
        metric:*[!0-9]*) ;;
        metric:*) metric=$2 ;;
        pref:high) preference=0 ;;
        pref:low) preference=2 ;;
        esac
        shift
    done
    [ -n "$routers" ] || return 0
    rank=$((metric * 6 + dead * 3 + preference))
    if [ -z "$best6" ] || [ "$rank" -lt "$best6" ]; then
        best6=$rank seen6=''
    fi
    if [ "$rank" -eq "$best6" ]; then
        seen6="$seen6$routers"
    fi
}

# Whether main has defaults ($2) through this NIC and none by the planned gateway ($1).
differs() {
    if [ -z "$2" ] || [ "$1" = any ]; then
        return 1
    fi
    case "$2 " in
    *" $1 "*) return 1 ;;
    esac
    misfit="its gateway is now$2 instead of ${1:-none}"
}

# Whether addresses of the families $1 are absent, or the default that a router
# had advertised.  Those of the other family are replayed all the same: they may
# come later.
misses() {
    for address in $absent; do
        case $1:$address in
        4:*:* | 6:*.*) ;;
        *)
            [ -n "$misfit" ] || misfit="absent: $address"
            return 0
            ;;
        esac
    done
    case $1:$advertised:$seen6:$misfit in
    *6:6::) misfit="withdrawn: the default by $gateway6" ;;
    *) return 1 ;;
    esac
}

run_down() {
    if [ -n "$down6" ] && [ "$1" != 4 ]; then
        "$ip" -6 -force -batch - <<END &
$down6
END
    fi
    if [ -n "$down4" ] && [ "$1" != 6 ]; then
        exec "$ip" -4 -force -batch - <<END
$down4
END
    fi
}

# Takes away the rules of $nic itself, of the families $1; sets misfit as replay does.
withdraw() {
    told=$(run_down "$1" 2>&1) || :
    misfit=''
    IFS=$newline
    for line in $told; do
        case $line in
        'RTNETLINK answers: No such file or directory' | 'Command failed -:'*) ;; # gone already
        *) misfit="ip says \"$line\"" ;;
        esac
    done
    unset IFS
    mind_an_apply
}

# $nic is up, with its addresses of the families $1; $2: the addresses and $3 the
# gateways that its manager was told to set, where known.
nic_up() {
    if ! load; then
        if [ -n "$("$ip" -o address show dev "$nic" scope global 2>/dev/null)" ]; then
            hand_over 'is not known yet'
        fi
        return 0
    fi
    reason=''
    if is_busy; then
        reason='an apply was under way'
    fi
    case $1:${up4:+4}${up6:+6} in
    4:4* | 6:*6 | 46:?*) ;;
    *)
        hand_over "has IPv$1 now"
        return 0
        ;;
    esac
    for address in ${2:-}; do
        if ! is_known "$address"; then
            hand_over "$address is new"
            return 0
        fi
    done
    for gateway in ${3:-}; do
        case $gateway in
        *:*) planned=$gateway6 ;;
        *) planned=$gateway4 ;;
        esac
        if differs "$planned" " $gateway"; then
            hand_over "$misfit"
            return 0
        fi
    done
    replay "$1"
    case $reason$misfit in
    '') ;;
    'absent: '*) hand_over "$misfit" 2 "$1" ;;
    'withdrawn: '*) hand_over "$misfit" 1 "$1" ;; # a flap brings it back in that time
    *) hand_over "${reason:-$misfit}" ;;
    esac
}

# $nic is down, or has lost its addresses of the families $1.
nic_down() {
    load || return 0
    reason=''
    if is_busy; then
        reason='an apply was under way'
    fi
    withdraw "$1"
    if [ -n "$reason$misfit" ]; then
        hand_over "${reason:-$misfit}"
    fi
}

# Leaves $nic to `source-routing apply`: why, and where that may have passed by
# then, seconds to wait and the families to look at again.
hand_over() {
    [ -d "$state" ] || mkdir -p "$state"
    : >"$state/pending.$nic"
    # shellcheck disable=SC2034 # for who sources this
    handed_over=yes
    plan_anew "$1" "${2:-$patience}" "${3:-}" &
}

# In the background.  NICs that come up at once share one run: who gets the lock
# takes all that is pending, and the others find their work done.
plan_anew() {
    # Not at the call: dash would keep copies of what it redirects there, and
    # ifupdown2 reads a hook's output until nobody can write any more.
    exec </dev/null >/dev/null 2>&1
    trap '' HUP
    trap - EXIT
    set +ef
    if [ "$2" -gt 0 ]; then
        sleep "$2"
    fi
    if [ -n "$3" ] && load && replay "$3" && [ -z "$misfit" ]; then
        rm -f "$state/pending.$nic"
        exit 0
    fi
    exec 9>"$state/hook.lock"
    if command -v flock >/dev/null; then
        flock -w 120 9 || say warning "$nic: another hook has been busy for 120 s; going on"
    fi
    [ -e "$state/pending.$nic" ] || exit 0
    reason=$1
    say info "$nic: $reason; planning anew"
    set -- "$state"/pending.*
    rm -f "$@"
    if [ $# -eq 1 ] && [ -e "/sys/class/net/$nic" ]; then
        set -- --interface "$nic"
    else
        set --
    fi
    if command -v timeout >/dev/null; then
        told=$(timeout 120 source-routing apply --again "$@" 2>&1 9>&-)
    else
        told=$(source-routing apply --again "$@" 2>&1 9>&-)
    fi
    code=$?
    told=${told##*"$newline"}
    case $code:$told in
    '0:Nothing to change'*) say info "$nic: $reason: $told" ;;
    0:*) say notice "$nic: $reason: $told" ;;
    *) say err "$nic: $reason: source-routing apply failed (exit $code): $told" ;;
    esac
}
