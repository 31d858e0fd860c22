//! Which Envoy has loaded us.
//!
//! Envoy loads a module of another ABI version with a warning at most, and tells
//! nobody its own version. What identifies it is the set of callbacks that it
//! exports: releases add and remove some. The names in the executable's dynamic
//! symbol table are hashed and looked up among the versions that this module has
//! been tested with.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// Fingerprints of the tested versions.
const SUPPORTED: [(&str, u64); 1] = [("1.40.0", 0x4991_d160_89ec_60c5)];

const CALLBACK: &str = "envoy_dynamic_module_callback_";

/// Whether this is an Envoy that the module knows. Looked up once.
pub fn check() -> Result<(), &'static str> {
    static CHECKED: OnceLock<Result<(), String>> = OnceLock::new();
    let checked = CHECKED.get_or_init(|| {
        let fingerprint = File::open("/proc/self/exe")
            .and_then(|executable| fingerprint(&executable))
            .map_err(|error| format!("cannot tell the version of this Envoy: {error}"))?;
        recognise(fingerprint)
    });
    checked.as_ref().copied().map_err(String::as_str)
}

fn recognise(fingerprint: u64) -> Result<(), String> {
    if SUPPORTED.iter().any(|(_, known)| *known == fingerprint) {
        return Ok(());
    }
    let supported = SUPPORTED.map(|(version, _)| version).join(", ");
    Err(format!(
        "this Envoy (callbacks {fingerprint:016x}) is not supported: the module is made for \
         Envoy {supported}"
    ))
}

/// FNV-1a over the sorted names of the callbacks.
fn fingerprint(executable: &File) -> io::Result<u64> {
    let mut names = callbacks(executable)?;
    names.sort_unstable();
    names.dedup();
    let bytes = names.iter().flat_map(|name| name.iter().chain(b"\n"));
    Ok(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }))
}

/// The exported callbacks of a 64-bit little-endian ELF file (System V ABI,
/// chapter 4: ELF header, section headers, symbol table).
fn callbacks(elf: &File) -> io::Result<Vec<Vec<u8>>> {
    const DYNSYM: u32 = 11;
    const SYMBOL: usize = 24;
    let header = read(elf, 0, 64)?;
    if header[..6] != *b"\x7fELF\x02\x01" {
        return Err(io::Error::other("not a 64-bit little-endian ELF file"));
    }
    let (at, size, count) = (
        number(&header, 40, 8),
        number(&header, 58, 2),
        number(&header, 60, 2),
    );
    let sections = (0..count)
        .map(|index| read(elf, at + index * size, 64))
        .collect::<io::Result<Vec<_>>>()?;
    let section = |index: u64| {
        let found = usize::try_from(index)
            .ok()
            .and_then(|index| sections.get(index));
        found.ok_or_else(|| io::Error::other("no such section"))
    };
    let content = |section: &[u8]| {
        let size = usize::try_from(number(section, 32, 8)).map_err(io::Error::other)?;
        read(elf, number(section, 24, 8), size)
    };
    let dynsym = sections
        .iter()
        .find(|section| number(section, 4, 4) == u64::from(DYNSYM))
        .ok_or_else(|| io::Error::other("no dynamic symbols"))?;
    let names = content(section(number(dynsym, 40, 4))?)?;
    Ok(content(dynsym)?
        .chunks_exact(SYMBOL)
        .filter_map(|symbol| {
            let name = names.get(usize::try_from(number(symbol, 0, 4)).ok()?..)?;
            let name = name.split(|byte| *byte == 0).next()?;
            Some(name.strip_prefix(CALLBACK.as_bytes())?.to_vec())
        })
        .collect())
}

fn read(file: &File, at: u64, size: usize) -> io::Result<Vec<u8>> {
    const MOST: usize = 16 << 20;
    if size > MOST {
        return Err(io::Error::other("a section is too large"));
    }
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let digits = bytes[at..at + size].iter().rev();
    digits.fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_program_is_refused_with_the_versions_that_work() {
        let error = check().unwrap_err();
        assert!(error.contains("1.40.0"), "{error}");
    }

    #[test]
    fn the_version_that_the_project_runs_is_supported() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../envoy-config/ENVOY_VERSION");
        let version = std::fs::read_to_string(path).unwrap();
        assert!(SUPPORTED.iter().any(|(known, _)| *known == version.trim()));
    }

    #[test]
    fn files_that_are_no_elf_are_errors() {
        let source = File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
        assert!(fingerprint(&source).is_err());
        assert!(fingerprint(&File::open("/dev/null").unwrap()).is_err());
    }
}
