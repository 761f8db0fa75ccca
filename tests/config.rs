//! The configuration: every key is read, printed and explained by one table.

use std::path::Path;

use forebay::gateway::config::render::render;
use forebay::gateway::config::settings::SETTINGS;
use forebay::gateway::config::{Address, Config, Field, Origin, Size, Span};
use forebay::gateway::plan::Plan;

fn read(text: &str) -> Result<Config, String> {
    let mut config = Config::default();
    config.apply_text(text).map_err(|error| error.to_string())?;
    Ok(config)
}

fn refusal(text: &str) -> String {
    read(text).expect_err("this configuration is to be refused")
}

/// Every value as TOML; two configurations that show the same are the same.
fn shown(config: &Config) -> Vec<String> {
    SETTINGS.iter().map(|setting| format!("{} = {}", setting.key, (setting.show)(config))).collect()
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(shown(&read("").unwrap()), shown(&Config::default()));
}

#[test]
fn the_printed_configuration_reads_back_identically() {
    let mut config = Config::default();
    for (key, value) in [
        ("store.path", "/var/lib/for\"e\\bay/ä.fby"),
        ("store.size", "64M"),
        ("mqtt.listen", "[\"0.0.0.0:1883\", \"unix:/run/forebay/mqtt\"]"),
        ("mqtt.max_packet_size", "100001"),
        ("connections.handshake", "1500ms"),
        ("limits.entries", "4096"),
        ("memory.total", "32M"),
        ("log.level", "debug"),
    ] {
        config.apply_flag(key, value).unwrap();
    }
    let printed = render(&config);
    let again = read(&printed).unwrap();
    assert_eq!(shown(&again), shown(&config));
    assert_eq!(again.store.path, Path::new("/var/lib/for\"e\\bay/ä.fby"));
    assert_eq!(
        render(&read(&render(&Config::default())).unwrap()).matches("# from line").count(),
        SETTINGS.len()
    );
}

#[test]
fn the_effective_configuration_fits_the_memory_it_was_made_for() {
    let mut config = Config::default();
    config.apply_flag("memory.total", "5M").unwrap();
    let plan = Plan::fit(&mut config).unwrap();
    assert!(plan.memory_bytes() <= 5 << 20);
    let mut again = read(&render(&config)).unwrap();
    let planned_again = Plan::fit(&mut again).unwrap();
    assert_eq!(planned_again.rows, plan.rows);
}

#[test]
fn every_key_is_documented_and_printed_once() {
    let printed = render(&Config::default());
    for setting in SETTINGS {
        let (_, name) = setting.parts();
        assert!(setting.doc.ends_with('.'), "{} lacks a sentence", setting.key);
        assert!(printed.contains(&format!("\n{name} = ")), "{} is not printed", setting.key);
    }
}

#[test]
fn flags_go_before_the_file() {
    let mut config = read("[store]\nsize = \"64M\"\npath = \"a\"\n").unwrap();
    config.apply_flag("store.size", "128M").unwrap();
    assert_eq!(config.store.size, Size(128 << 20));
    assert_eq!(*config.origin("store.size"), Origin::Flag);
    assert_eq!(*config.origin("store.path"), Origin::Line(3));
    assert_eq!(*config.origin("log.level"), Origin::Default);
}

#[test]
fn unknown_keys_are_refused_with_the_line_and_the_nearest_key() {
    let text = refusal("[store]\npath = \"a\"\n\n[limits]\nqueus = 3\n");
    assert_eq!(text, "line 5: there is no key limits.queus; did you mean limits.queues?");
    let text = refusal("[mqtt]\nlisten_on = \"127.0.0.1:1883\"\n");
    assert!(text.contains("did you mean mqtt.listen?"), "{text}");
    let text = refusal("[strore]\npath = \"a\"\n");
    assert!(text.starts_with("line 1: there is no section [strore]; there are [store] [mqtt]"), "{text}");
    let text = refusal("queues = 3\n");
    assert!(text.starts_with("line 1: there is no key queues; did you mean limits.queues?"), "{text}");
}

#[test]
fn values_of_the_wrong_kind_are_refused_with_an_example() {
    let text = refusal("[store]\nsize = \"big\"\n");
    assert_eq!(text, "line 2: store.size needs a size such as \"64K\", \"256M\" or \"1G\"");
    assert!(refusal("[limits]\nqueues = -1\n").contains("a whole number"));
    assert!(refusal("[limits]\nqueues = 4294967296\n").contains("a whole number"));
    assert!(refusal("[log]\nlevel = \"loud\"\n").contains("\"debug\""));
    assert!(refusal("[mqtt]\nlisten = [\"1883\"]\n").contains("127.0.0.1:1883"));
}

#[test]
fn broken_toml_names_the_line() {
    assert!(refusal("[store]\npath = \n").starts_with("line 2: "));
    assert!(refusal("[store]\nsize = 1\nsize = 2\n").starts_with("line 3: "));
}

#[test]
fn sizes_spans_and_addresses_are_read_as_written() {
    for (text, bytes) in [("0", 0), ("4096", 4096), ("64K", 65_536), ("64kb", 65_536), ("1 GiB", 1 << 30)] {
        assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
    }
    for text in ["", "K", "-1", "1.5M", "99999999999999999999", "99999999999G"] {
        assert_eq!(Size::parse(text), None, "{text}");
    }
    for (text, ms) in
        [("500ms", 500), ("10", 10_000), ("5m", 300_000), ("6h", 21_600_000), ("1d", 86_400_000)]
    {
        assert_eq!(Span::parse(text), Some(Span(ms)), "{text}");
    }
    assert_eq!(Address::parse("unix:/run/a"), Some(Address::Unix("/run/a".into())));
    assert_eq!(Address::parse("[::1]:1883"), Some(Address::Tcp("[::1]:1883".into())));
    for text in ["", "1883", ":1883", "::1:1883", "host:70000", "unix:"] {
        assert_eq!(Address::parse(text), None, "{text}");
    }
    assert_eq!(
        (Size(65_536).exact(), Size(100).exact(), Size(0).show()),
        ("64K".into(), "100".into(), "\"0\"".into())
    );
}

#[test]
fn what_was_set_is_kept_and_the_rest_shrinks() {
    let mut config = Config::default();
    config.apply_flag("memory.total", "6M").unwrap();
    config.apply_flag("limits.entries", "100000").unwrap();
    Plan::fit(&mut config).unwrap();
    assert_eq!(config.limits.entries, 100_000);
    assert!(config.limits.in_flight < Config::default().limits.in_flight);
}

#[test]
fn a_configuration_that_cannot_fit_names_the_line_to_change() {
    let mut config = read("[memory]\ntotal = \"8M\"\n\n[limits]\nentries = 10000000\n").unwrap();
    let text = Plan::fit(&mut config).unwrap_err().to_string();
    assert!(
        text.contains("limits.entries (line 5)") && text.contains("memory.total (line 2) = 8M"),
        "{text}"
    );
}

#[test]
fn a_store_that_cannot_work_is_refused_before_it_is_made() {
    for (key, value, says) in [
        ("store.segment_size", "100000", "power of two"),
        ("store.size", "2M", "must be 2304K or more (9 segments)"),
        ("store.size", "2048G", "must be 1024G or less"),
        ("store.size", "100000001", "whole segments"),
    ] {
        let mut config = Config::default();
        config.apply_flag(key, value).unwrap();
        let text = Plan::fit(&mut config).unwrap_err().to_string();
        assert!(text.contains(says) && text.contains(key), "{text}");
    }
}

#[test]
fn the_profiles_of_the_boards_are_valid() {
    for (file, most) in [("forebay.toml", 32 << 20), ("pi-zero.toml", 2 << 20)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards/raspberry-pi").join(file);
        let mut config = Config::from_file(&path).unwrap();
        let plan = Plan::fit(&mut config).unwrap();
        assert!(plan.memory_bytes() <= most, "{file}");
    }
}
