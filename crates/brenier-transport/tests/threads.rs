//! The same rows make the same map file, byte for byte, whatever the number of threads.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use brenier_map::{MapEntry, MapFile, RowMap};
use brenier_transport::{FitOptions, Method, Shrinkage, fit};
use common::rows;
use faer::{Mat, Par, get_global_parallelism, set_global_parallelism};

/// The only test here: faer's parallelism is global to the process.
#[test]
fn a_map_file_has_the_same_bytes_on_1_2_and_4_threads() {
    let (source, target, apart) = (rows(128, 600, 31), rows(120, 600, 32), rows(40, 600, 33));
    let before = get_global_parallelism();
    let mut files = Vec::new();
    for (threads, par) in [(1, Par::Seq), (2, Par::rayon(2)), (4, Par::rayon(4)), (4, Par::Seq)] {
        set_global_parallelism(par);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        files.push((threads, par, pool.install(|| file(&source, &target, &apart))));
    }
    set_global_parallelism(before);
    let (_, _, first) = &files[0];
    assert!(first.len() > 10_000, "maps of 600 coordinates");
    for (threads, par, bytes) in &files {
        assert!(bytes == first, "{threads} threads, faer at {par:?}: other bytes");
    }
}

fn file(source: &Mat<f64>, target: &Mat<f64>, apart: &Mat<f64>) -> Vec<u8> {
    let plain = FitOptions { components: 3, ..FitOptions::default() };
    let shrunk = FitOptions { shrinkage: Shrinkage::Auto, ..plain };
    let mut entries = BTreeMap::new();
    for method in Method::ALL {
        for (label, options) in [("plain", &plain), ("shrunk", &shrunk)] {
            // The others have no covariance to shrink.
            if label == "shrunk" && !matches!(method, Method::PcaOt | Method::Gated | Method::Ot) {
                continue;
            }
            let held_out = Some((apart.as_ref(), apart.as_ref()));
            let found = fit(method, source.as_ref(), target.as_ref(), options, held_out).unwrap();
            let certificate = serde_json::to_value(&found.certificate).unwrap();
            let mut keep = |what: &str, map: RowMap| {
                let entry = MapEntry { map, certificate: certificate.clone(), method: method.to_string() };
                entries.insert(format!("{method}.{label}.{what}"), entry);
            };
            if (method, label) == (Method::Ot, "shrunk") {
                keep("inverse", found.map.inverse().unwrap());
                keep("twice", found.map.compose(&found.map).unwrap());
            }
            keep("map", found.map);
        }
    }
    MapFile { entries, metadata: BTreeMap::new() }.to_bytes().unwrap()
}
