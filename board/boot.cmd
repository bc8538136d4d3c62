# What U-Boot runs from the boot partition: it chooses the slot, counts the starts of one that is on trial, and goes back to the
# one before when they are used up. It never changes with an update: what does lies in the slots.
#
# Which slot counts stands in two sectors in front of the partitions, at 1 MiB and at 2 MiB: U-Boot's own form of an
# environment (CRC-32, name=value), read and written by /usr/lib/iotsocketd/slot of the system as well. Whoever writes one sector
# writes it whole; of two copies one is always whole. With neither slot a counts.
#   active=a  the slot that counts     try=b  one that is to show that it works; empty: none     tries=3  starts left for it

# A card in a machine that it is not for starts no system: it would find neither disk nor network.
fdt addr ${fdt_addr}
fdt get value machine / compatible
fdt get value chip / compatible 1
if test -n "${machine}" -a "${machine}" != @MACHINE@ -a "${chip}" != @MACHINE@; then
    echo "iotsocketd: this is the image for @TITLE@, and this machine is another (${machine}): flash the image that is for it"
    sleep 60
    reset
fi

${devtype} dev ${devnum}
setenv block ${ramdisk_addr_r}
setenv known
for at in 0x800 0x1000; do
    if test -z "${known}"; then
        if ${devtype} read ${block} ${at} 1; then
            if env import -c ${block} 0x200 active try tries; then setenv known yes; fi
        fi
    fi
done
if test "${active}" != b; then setenv active a; fi
setenv slot ${active}
setenv trial
if test -n "${try}"; then
    if test ${tries} -gt 0; then
        setexpr tries ${tries} - 1
        env export -c -s 0x200 ${block} active try tries
        ${devtype} write ${block} 0x800 1
        ${devtype} write ${block} 0x1000 1
        setenv slot ${try}
        setenv trial iotsocketd.trial
    fi
fi
# The slot, and when it cannot be read and is not on trial, the other one.
setenv others a b
if test -n "${trial}"; then setenv others; fi
for slot in ${slot} ${others}; do
    setenv part 2
    if test ${slot} = b; then setenv part 3; fi
    echo "iotsocketd: starting slot ${slot} ${trial}"
    if load ${devtype} ${devnum}:${part} ${block} options; then
        env import -t ${block} ${filesize} options
        setenv bootargs "console=tty0 console=@CONSOLE@ iotsocketd.disk=@SIGNATURE@ iotsocketd.slot=${slot} ${trial} ${options}"
        if load ${devtype} ${devnum}:${part} ${kernel_addr_r} vmlinuz; then
            if load ${devtype} ${devnum}:${part} ${ramdisk_addr_r} initrd.img; then
                if test -n "${trial}"; then
                    # Until Linux watches, the machine's own watchdog does: one that hangs is started again, and counted.
@WATCHDOG@
                fi
                booti ${kernel_addr_r} ${ramdisk_addr_r}:${filesize} ${fdt_addr}
            fi
        fi
    fi
    echo "iotsocketd: slot ${slot} cannot be started"
done
sleep 1
reset
