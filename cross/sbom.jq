# From `cargo metadata`, with $lock (the text of Cargo.lock) and $tree (of `cargo tree`), to CycloneDX.

def purl: "pkg:cargo/\(.name)@\(.version)";

# Checksums by name@version.
($lock | split("[[package]]") | map(
    (capture("name = \"(?<name>[^\"]*)\"\nversion = \"(?<version>[^\"]*)\"")? // empty) as $package
    | (capture("checksum = \"(?<sum>[0-9a-f]{64})\"")? // empty)
    | { key: ($package | purl), value: .sum }
) | from_entries) as $sums
| ($tree | [scan("(?m)^([^ \n]+) v([^ \n]+)") | { key: ({ name: .[0], version: .[1] } | purl), value: true }] | from_entries) as $linked
| (.packages | map({ key: .id, value: . }) | from_entries) as $packages
| (.resolve.nodes | map({ key: .id, value: . }) | from_entries) as $nodes
| $packages[.resolve.root] as $program
| (.packages | map(select($linked[purl] and .id != $program.id)) | sort_by(.name, .version)) as $crates
| {
    bomFormat: "CycloneDX",
    specVersion: "1.5",
    version: 1,
    metadata: {
        component: {
            type: "application",
            "bom-ref": ($program | purl),
            name: $program.name,
            version: $program.version,
            licenses: [{ expression: $program.license }],
            hashes: [{ alg: "SHA-256", content: $sha256 }],
            properties: [{ name: "target", value: $target }]
        }
    },
    components: ([{
        type: "library",
        "bom-ref": "rust-std@\($rust)",
        name: "rust-std",
        version: $rust,
        licenses: [{ expression: "MIT OR Apache-2.0" }]
    }] + ($crates | map({
        type: "library",
        "bom-ref": purl,
        name,
        version,
        purl: purl,
        # Older crates write `MIT/Apache-2.0`.
        licenses: [{ expression: (.license | gsub(" */ *"; " OR ")) }],
        hashes: [{ alg: "SHA-256", content: $sums[purl] }]
    }))),
    dependencies: ([$program] + $crates | map({
        ref: purl,
        dependsOn: ([$nodes[.id].deps[]
            | select(any(.dep_kinds[]; .kind == null))
            | $packages[.pkg] | purl | select($linked[.])] | sort)
    }))
}
