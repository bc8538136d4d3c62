# shellcheck shell=bash
# What the stories of tests/image/run are told with: QEMU with a card, the gateway on it and what it is asked. Sourced.

install_missing() {
    local package missing=()
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    local as_root=()
    ((EUID == 0)) || as_root=(sudo)
    "${as_root[@]}" apt-get update -q
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# Unpacked and not installed: Debian's qemu-system-arm and a newer qemu-utils exclude each other.
own_qemu() {
    local root=$PWD/target/image/qemu deb
    if [[ ! -d $root ]]; then
        rm -rf "$root.part"
        mkdir -p "$root.part/debs"
        (cd "$root.part/debs" && apt-get download -q qemu-system-arm qemu-system-common qemu-system-data)
        for deb in "$root.part"/debs/*.deb; do
            dpkg-deb --extract "$deb" "$root.part"
        done
        # Its libraries, and nothing else of QEMU.
        dpkg-deb --field "$root.part"/debs/qemu-system-arm_*.deb Depends | tr ',' '\n' | sed 's/(.*//; s/ //g; /^qemu/d' \
            >"$root.part/libraries"
        mv "$root.part" "$root"
    fi
    # shellcheck disable=SC2046
    install_missing $(cat "$root/libraries")
    PATH=$root/usr/bin:$PATH
    QEMU_DATA=$root/usr/share/qemu
}
install_missing curl device-tree-compiler fdisk jq minisign mtools openssh-client openssl
command -v qemu-system-aarch64 >/dev/null || own_qemu

folder=$(mktemp -d)
qemu=
trap '[[ -z $qemu ]] || kill -9 "$qemu" 2>/dev/null || true; rm -rf "$folder"' EXIT
card=$folder/card.img
console=$folder/console
site=$folder/site
system=$(ls "$built"/system-*.img)
passed=0
key=
rtc=utc
# Where the partitions are, as board/build lays them.
boot_at=$((4 << 20)) data_at=$((320 << 20))

fail() {
    echo "FAILED: $*; the console said:" >&2
    tr -d '\r' <"$console" | grep -a iotsocketd | tail -n 30 >&2 || true
    exit 1
}

pass() {
    passed=$((passed + 1))
    echo "ok: $*"
}

said() { tr -d '\r' <"$console" | grep -aq "$1"; }
holds() { if "${@:2}"; then pass "$1"; else fail "$1"; fi; }
without() { ! "$@"; }

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}
api=$(free_port)
sessions=$(free_port)
shell=$(free_port)

# Power on. QEMU loads U-Boot, as a firmware does.
power_on() {
    : >"$console"
    local hardware=(-M virt,gic-version=3 -cpu cortex-a72 -smp 2 -m 512 -accel tcg,thread=multi -bios "$built/u-boot.bin" -serial "file:$console"
        -drive "if=none,id=card,file=$card,format=raw,cache=unsafe" -device virtio-blk-pci,drive=card -device virtio-rng-pci
        -device virtio-net-pci,netdev=net,romfile= -device i6300esb,addr=4)
    # The console is the second port of a Raspberry Pi.
    if [[ $built == */rpi3 ]]; then
        hardware=(-M raspi3b -kernel "$built/u-boot.bin" -dtb "$folder/tree.dtb" -serial null -serial "file:$console"
            -drive "if=sd,file=$card,format=raw,cache=unsafe")
    fi
    qemu-system-aarch64 ${QEMU_DATA:+-L "$QEMU_DATA"} -display none -monitor none -rtc "base=$rtc" "${hardware[@]}" \
        -netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$api-:443,hostfwd=tcp:127.0.0.1:$sessions-:50505,hostfwd=udp:127.0.0.1:$sessions-:50505,hostfwd=tcp:127.0.0.1:$shell-:22" &
    qemu=$!
}

answers() { [[ $(curl --silent --insecure --max-time 5 "https://127.0.0.1:$api/readyz") == ready ]]; }

# Until COMMAND holds.
await() {
    local begun=$SECONDS
    until "$@"; do
        kill -0 "$qemu" 2>/dev/null || fail "the machine stopped"
        ((SECONDS - begun < boot_seconds)) || fail "$* does not hold within $boot_seconds s"
        sleep 0.5
    done
    waited=$((SECONDS - begun))
}

# Power on, until the API answers.
boot() {
    power_on
    await answers
    echo "answers $waited s after power on"
}

# Power off, as a pulled plug is: no signal that anything could catch.
cut_power() {
    kill -9 "$qemu"
    wait "$qemu" 2>/dev/null || true
    qemu=
}

# What the gateway says to the key that was shown.
ask() { curl --silent --show-error --fail-with-body --max-time 20 --cacert "$site/tls/server.crt" "https://localhost:$api$1" -H "Authorization: Bearer $key" "${@:2}"; }

on_gateway() {
    ssh -i "$folder/id" -p "$shell" -o BatchMode=yes -o StrictHostKeyChecking=no -o "UserKnownHostsFile=$folder/known" -o LogLevel=ERROR \
        -o ConnectTimeout=20 root@127.0.0.1 "$@"
}
reachable() { on_gateway true 2>/dev/null; }
slot() { on_gateway cat /run/iotsocketd-data/slot; }
alerts() { ask /v1/status | jq --raw-output '.alerts[] | "\(.name) \(.subject // "") \(.sentence)"'; }
alerted() { alerts | grep -q "$1"; }
balanced() { ask /v1/status | jq --exit-status '.books | .received == .delivered + .waiting + ([.dropped[]] | add)' >"$folder/verdict"; }

# The key that the console offered, and the certificate that is served.
meet() {
    key=$(tr -d '\r' <"$console" | grep -a -o 'shown this once: [0-9a-f]*' | grep -o '[0-9a-f]*$')
    mkdir -p "$site/tls"
    openssl s_client -connect "127.0.0.1:$api" </dev/null 2>/dev/null | openssl x509 >"$site/tls/server.crt"
}

# A gateway that runs; flashed and started for the first time if there is none.
ready() {
    [[ -n $key ]] || flash_and_boot
    [[ -n $qemu ]] || boot
}

to_boot_partition() { mcopy -o -i "$card@@$boot_at" "$1" "::$2"; }

# A card of so many bytes, or as long as the image, if that is more.
card_bytes=1000000000
flash() {
    rm -rf "$site" "$folder/known"
    cp --sparse=always "$built/image.img" "$card"
    truncate -s ">$card_bytes" "$card"
}

flash_and_boot() {
    flash
    [[ -e $folder/id ]] || ssh-keygen -q -t ed25519 -N '' -f "$folder/id"
    [[ -e $folder/maker.pub ]] || minisign -G -W -p "$folder/maker.pub" -s "$folder/maker" >/dev/null
    # As somebody does who flashed a card.
    mcopy -o -n -i "$card@@$boot_at" ::iotsocketd.toml "$folder/good.toml"
    sed -i "s|^ssh_keys = \[\]|ssh_keys = [\"$(cat "$folder/id.pub")\"]|; s|^#hostname = .*|hostname = \"cupboard-7\"|; s|^ntp = \[\]|ntp = [\"192.0.2.1\"]|" \
        "$folder/good.toml"
    to_boot_partition "$folder/good.toml" iotsocketd.toml
    to_boot_partition "$folder/maker.pub" upgrade.pub
    boot
    await reachable
    "$program" init "$site" >/dev/null
    meet
    printf '%s\n' "$key" >"$site/central.key"
    sed -i "s/\"0.0.0.0:50505\"/\"127.0.0.1:$sessions\"/; s/\"0.0.0.0:443\"/\"127.0.0.1:$api\"/" "$site/iotsocketd.toml"
    for number in 1 2 3 4 5; do
        "$program" device add "sim-$number" --group Devices --config "$site/iotsocketd.toml" >/dev/null
    done
    jq '[to_entries[] | { UID: .key, GroupName: .value.GroupName, AuthKey: .value.AuthKey }]' "$site/state/acl.json" >"$folder/acl"
    ask /acl --data "@$folder/acl" -H 'Content-Type: application/json' >"$folder/answer" || fail "the access list is not taken"
}

simulate() { "$program" simulate --config "$site/iotsocketd.toml" --objects 5 --rate 20 --telemetry 20 --for "$1" --json >"$folder/result"; }

# FILE COMMENT: brings a system and its signature to the gateway.
bring() {
    rm -f "$1.minisig"
    minisign -S -W -s "$folder/maker" -m "$1" -t "$2" >/dev/null
    on_gateway 'cat >/data/system.img' <"$1"
    on_gateway 'cat >/data/system.img.minisig' <"$1.minisig"
}
upgrade() { on_gateway iotsocketd upgrade /data/system.img >"$folder/upgraded" 2>&1; }

# A copy of the system with one file of it replaced by what is in FILE.
changed() {
    cp "$system" "$folder/changed.img"
    mcopy -o -i "$folder/changed.img" "$2" "::$1"
}
