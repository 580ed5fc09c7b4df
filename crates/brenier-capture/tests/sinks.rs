//! Rows that go to files and into moments as they come: nothing is lost, doubled or mixed, whatever is interrupted.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use brenier_capture::{
    ActivationFile, ActivationSink, Activations, CaptureError, CapturedMoments, Fact, Former, MomentsSink,
    MomentsStore, Part, Plan, Position, Request, Rows, ShardWriter, Share, capture, capture_to,
};
use brenier_files::WriteError;
use brenier_linalg::{Covariance, Moments};
use brenier_residual::HookPoint;
use common::{Add, Counter, HIDDEN};

/// The moments of at most 40 values below 1000, in sums of another order.
const TOLERANCE: f64 = 1e-9;

fn prompts() -> Vec<Vec<u32>> {
    (0..11).map(|i| (0..2 + i % 4).map(|token| (7 * i + 3 * token) % 50).collect()).collect()
}

fn request(share: &str, position: Position) -> Request {
    let mut request = Request {
        points: [0, 2].map(HookPoint::resid_post).into(),
        position,
        share: share.parse().unwrap(),
        part: Some(2),
        ..Request::default()
    };
    request.made.state(Fact::Model, "m");
    request
}

/// Captures into a sink, and says how many prompts were run through the model.
fn into(sink: &mut dyn ActivationSink, request: &Request) -> Result<usize, CaptureError> {
    let mut before = Count(Add(1, 0.5), 0);
    capture_to(&Counter::new(4), &prompts(), request, &mut before, sink, &mut |_| {})?;
    Ok(before.1)
}

/// A tap around another that counts rows.
struct Count(Add, usize);

impl brenier_residual::Tap for Count {
    fn wants(&self, at: HookPoint) -> bool {
        at == HookPoint::resid_post(1)
    }

    fn visit(
        &mut self,
        at: HookPoint,
        tokens: &dyn brenier_residual::TokenView,
        x: brenier_residual::Tensor<3>,
    ) -> Result<brenier_residual::Tensor<3>, brenier_residual::ResidualError> {
        self.1 += tokens.rows();
        self.0.visit(at, tokens, x)
    }
}

/// A capture of all prompts into memory, in one part.
fn whole(position: Position) -> Activations {
    let request = Request { part: None, ..request("0/1", position) };
    capture(&Counter::new(4), &prompts(), &request, &mut Add(1, 0.5), &mut |_| {}).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn shards_read_as_the_file_that_one_run_writes() {
    for position in [Position::Last, Position::All, Position::FromEnd(2)] {
        let dir = tempfile::tempdir().unwrap();
        for share in ["2/3", "0/3", "1/3"] {
            into(&mut ShardWriter::new(dir.path(), Former::Refuse), &request(share, position)).unwrap();
        }
        let (found, wanted) = (Activations::read(dir.path()).unwrap(), whole(position));
        assert_eq!(found.tensors, wanted.tensors, "{position}");
        assert_eq!(found.metadata, wanted.metadata);
        let index = found.rows.clone().unwrap();
        match &wanted.rows {
            Some(wanted) => assert_eq!(index, *wanted),
            None => assert_eq!(index.prompt, (0..11).collect::<Vec<_>>()),
        }
        let mut without = found;
        without.drop_plain_index();
        assert_eq!(without, wanted);
    }
}

#[test]
fn what_is_there_is_not_computed_again() {
    let dir = tempfile::tempdir().unwrap();
    let request = request("1/2", Position::Last);
    let write = |former| into(&mut ShardWriter::new(dir.path(), former), &request);
    // 11 prompts: 5 and 6, and these in parts of 2.
    assert_eq!(write(Former::Resume).unwrap(), 6);
    let all = names(dir.path());
    assert_eq!(
        all,
        [
            "manifest.1-of-2.json",
            "rows.1-of-2.00000.safetensors",
            "rows.1-of-2.00001.safetensors",
            "rows.1-of-2.00002.safetensors",
        ]
    );
    assert_eq!(write(Former::Resume).unwrap(), 0);
    let lost = dir.path().join(&all[2]);
    let before = fs::read(&lost).unwrap();
    fs::remove_file(&lost).unwrap();
    assert_eq!(write(Former::Resume).unwrap(), 2);
    assert_eq!(fs::read(&lost).unwrap(), before);

    assert!(matches!(write(Former::Refuse), Err(CaptureError::Write(WriteError::Exists { .. }))));
    // What another division into parts left behind goes.
    fs::write(dir.path().join("rows.1-of-2.00009.safetensors"), "old").unwrap();
    fs::write(dir.path().join("rows.1-of-20.00000.safetensors"), "another's").unwrap();
    assert_eq!(write(Former::Replace).unwrap(), 6);
    let left = names(dir.path());
    assert!(left.iter().all(|name| !name.contains("00009")) && left.len() == all.len() + 1);
}

#[test]
fn another_capture_is_not_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let plain = request("0/2", Position::Last);
    into(&mut ShardWriter::new(dir.path(), Former::Refuse), &plain).unwrap();
    let before = names(dir.path());
    let refused = |request: &Request, words: &[&str]| {
        let error = into(&mut ShardWriter::new(dir.path(), Former::Resume), request).unwrap_err();
        assert!(matches!(error, CaptureError::OtherCapture { .. }), "{error}");
        let text = error.to_string();
        words.iter().for_each(|word| assert!(text.contains(word), "no {word} in {text}"));
        assert_eq!(names(dir.path()), before);
    };
    let mut model = plain.clone();
    model.made.state(Fact::Model, "n");
    refused(&model, &["model.sha256 was `m` and is `n`"]);
    refused(&Request { position: Position::All, ..plain.clone() }, &["position was `last` and is `all`"]);
    refused(&Request { points: vec![HookPoint::resid_post(0)], ..plain.clone() }, &["list of tensors"]);
    refused(
        &Request { part: Some(3), ..plain.clone() },
        &["prompts to a part were `2, 2, 1, ...` and are `3, 2, ...`"],
    );
    refused(&Request { share: "0/3".parse().unwrap(), ..plain.clone() }, &["share was `0/2` and is `0/3`"]);
    let share = Share::new(1, 2).unwrap();
    refused(&Request { share, made: model.made.clone(), ..plain.clone() }, &["model.sha256"]);
    let mut system = plain.clone();
    system.made.state(Fact::Intervention, "{}");
    refused(&system, &["intervention was `not stated` and is `{}`"]);
    // Another version of the program goes on.
    let mut version = plain.clone();
    version.made.state(Fact::Version, "9.9.9");
    assert_eq!(into(&mut ShardWriter::new(dir.path(), Former::Resume), &version).unwrap(), 0);
    // Other prompts of the same number and lengths.
    let mut other = prompts();
    other[10][0] += 1;
    let sink = &mut ShardWriter::new(dir.path(), Former::Resume);
    let error = capture_to(&Counter::new(4), &other, &plain, &mut (), sink, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("hash of the token ids"), "{error}");
}

#[test]
fn a_directory_that_is_not_whole_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |words: &[&str]| {
        let text = ActivationFile::open(dir.path()).unwrap_err().to_string();
        assert!(!text.contains('\n'), "{text}");
        words.iter().for_each(|word| assert!(text.contains(word), "no {word} in {text}"));
    };
    let write = |share: &str| {
        into(&mut ShardWriter::new(dir.path(), Former::Replace), &request(share, Position::Last)).unwrap();
    };
    write("0/2");
    refused(&["share 1/2", "missing"]);
    write("1/2");
    let part = dir.path().join("rows.0-of-2.00001.safetensors");
    let content = fs::read(&part).unwrap();
    fs::remove_file(&part).unwrap();
    refused(&["rows.0-of-2.00001.safetensors is missing"]);
    fs::write(&part, &content[..content.len() - 1]).unwrap();
    refused(&["rows.0-of-2.00001.safetensors", "truncated"]);
    fs::copy(dir.path().join("rows.0-of-2.00002.safetensors"), &part).unwrap();
    refused(&["rows.0-of-2.00001.safetensors", "expected shape [2, 3]", "found [1, 3]"]);
    fs::write(&part, &content).unwrap();
    assert!(ActivationFile::open(dir.path()).is_ok());
    fs::write(dir.path().join("manifest.1-of-2.json"), "{}").unwrap();
    refused(&["manifest.1-of-2.json", "not the manifest"]);
}

/// Keeps moments in memory; breaks down after some parts.
#[derive(Default)]
struct Store {
    kept: Option<CapturedMoments>,
    breaks_after: Option<usize>,
}

impl MomentsStore for &mut Store {
    fn load(&mut self) -> Result<Option<CapturedMoments>, CaptureError> {
        Ok(self.kept.clone())
    }

    fn save(&mut self, moments: &mut CapturedMoments) -> Result<(), CaptureError> {
        self.kept = Some(moments.clone());
        match self.breaks_after {
            Some(parts) if parts == moments.parts => Err(CaptureError::Store("interrupted".into())),
            _ => Ok(()),
        }
    }
}

fn moments(share: &str, cap: usize) -> CapturedMoments {
    let mut store = Store::default();
    into(&mut MomentsSink::new(cap, &mut store), &request(share, Position::All)).unwrap();
    store.kept.unwrap()
}

#[test]
fn moments_are_those_of_the_rows() {
    let (found, rows) = (moments("0/1", HIDDEN), whole(Position::All));
    assert!(found.is_complete());
    for (name, moments) in &found.tensors {
        let mut wanted = Moments::new(HIDDEN, HIDDEN).unwrap();
        let rows = rows.tensors[name].to_f64();
        wanted.push(brenier_linalg::Rows::new(rows.as_ref()).unwrap()).unwrap();
        assert_eq!(*moments, wanted, "{name}");
    }
}

#[test]
fn an_interruption_does_not_show() {
    for cap in [1, HIDDEN] {
        let wanted = moments("1/2", cap);
        let mut store = Store { breaks_after: Some(2), ..Store::default() };
        let request = request("1/2", Position::All);
        let error = into(&mut MomentsSink::new(cap, &mut store), &request).unwrap_err();
        assert_eq!(error.to_string(), "interrupted");
        assert!(!store.kept.as_ref().unwrap().is_complete());
        store.breaks_after = None;
        // Two prompts of six are left.
        assert_eq!(into(&mut MomentsSink::new(cap, &mut store), &request).unwrap(), 2);
        assert_eq!(store.kept.clone().unwrap(), wanted, "bit for bit");

        let error = into(&mut MomentsSink::new(cap + 1, &mut store), &request).unwrap_err();
        assert!(error.to_string().contains(&format!("cap of the moments was `{cap}`")), "{error}");
        let other = Request { part: Some(1), ..request };
        let error = into(&mut MomentsSink::new(cap, &mut store), &other).unwrap_err();
        assert!(matches!(error, CaptureError::OtherMoments { .. }), "{error}");
    }
}

#[test]
fn shares_merge_into_the_moments_of_one_run() {
    let one = moments("0/1", HIDDEN);
    let all = CapturedMoments::merge(["2/3", "0/3", "1/3"].map(|share| moments(share, HIDDEN))).unwrap();
    assert_eq!(all.plan.prompts, one.plan.prompts);
    assert_eq!((all.plan.share, all.plan.rows()), (one.plan.share, one.plan.rows()));
    assert_eq!(all.plan.metadata, one.plan.metadata);
    for (name, moments) in &all.tensors {
        let wanted = &one.tensors[name];
        assert_eq!(moments.count(), wanted.count());
        let near = |a: f64, b: f64| (a - b).abs() <= TOLERANCE * b.abs().max(1.0);
        assert!(moments.mean().iter().zip(wanted.mean()).all(|(&a, &b)| near(a, b)), "{name}");
        let covariance = |of: &Moments| {
            let factor = of.factor(Covariance::Sample);
            factor.transpose() * &factor
        };
        let (found, wanted) = (covariance(moments), covariance(wanted));
        assert!((0..HIDDEN).all(|i| (0..HIDDEN).all(|j| near(found[(i, j)], wanted[(i, j)]))), "{name}");
    }
    // What was merged is whole, and so can be written and read.
    let again = CapturedMoments::new(all.tensors.clone(), all.metadata().unwrap()).unwrap().unwrap();
    assert_eq!(again, all);
}

#[test]
fn shares_that_are_no_capture_are_refused() {
    let share = |share: &str| moments(share, HIDDEN);
    let refused = |shares: Vec<CapturedMoments>, word: &str| {
        let text = CapturedMoments::merge(shares).unwrap_err().to_string();
        assert!(text.contains(word), "no {word} in {text}");
    };
    refused(vec![], "there is none");
    refused(vec![share("0/3"), share("2/3")], "share 1/3 is missing");
    refused(vec![share("0/3"), share("1/3")], "share 2/3 is missing");
    refused(vec![share("1/3"), share("2/3")], "share 0/3 is missing");
    refused(vec![share("0/2"), share("0/2"), share("1/2")], "share 0/2 is there twice");
    refused(vec![share("0/2"), share("1/3")], "share 1/3 is not one of 2");
    let mut partly = share("1/2");
    partly.parts -= 1;
    refused(vec![share("0/2"), partly], "share 1/2 has 2 of its 3 parts");
    let mut other = share("1/2");
    other.plan.metadata.insert("model.sha256".to_owned(), "n".to_owned());
    refused(vec![share("0/2"), other], "model.sha256 was `m` and is `n`");
    refused(vec![share("0/2"), moments("1/2", 1)], "tensor");
}

#[test]
fn metadata_that_contradict_the_moments_are_refused() {
    let good = moments("0/2", HIDDEN);
    let metadata = good.metadata().unwrap();
    let read =
        |metadata: &BTreeMap<String, String>| CapturedMoments::new(good.tensors.clone(), metadata.clone());
    assert_eq!(read(&metadata).unwrap().unwrap(), good);
    assert_eq!(read(&BTreeMap::new()).unwrap(), None, "made by another program");
    for (key, value) in
        [("capture.parts", "2"), ("capture.parts", "9"), ("capture.parts", "x"), ("capture.plan", "{}")]
    {
        let mut bad = metadata.clone();
        bad.insert(key.to_owned(), value.to_owned());
        assert!(matches!(read(&bad), Err(CaptureError::Plan { .. })), "{key} {value}");
    }
}

/// A sink that wants parts of so many bytes.
struct Sizes(usize, Vec<(usize, usize)>);

impl ActivationSink for Sizes {
    fn part_bytes(&self) -> Option<usize> {
        Some(self.0)
    }

    fn begin(&mut self, plan: &Plan) -> Result<(), CaptureError> {
        let rows: usize = plan.parts.iter().map(|part| part.rows).sum();
        assert_eq!((plan.rows(), plan.prompts), (rows, 11));
        Ok(())
    }

    fn put(&mut self, part: Part) -> Result<(), CaptureError> {
        let rows = part.tensors.values().map(|rows| rows.nrows()).max().unwrap();
        assert_eq!(part.index.prompt.len(), rows);
        let prompts: std::collections::BTreeSet<u32> = part.index.prompt.iter().copied().collect();
        self.1.push((prompts.len(), rows));
        Ok(())
    }
}

#[test]
fn parts_are_bounded_by_their_bytes_and_hold_a_prompt_at_least() {
    let mut request = Request { part: None, ..request("0/1", Position::All) };
    // Two tensors of three f32: 24 bytes a row. Prompts have 2, 3, 4, 5, 2, 3, ... tokens.
    let mut sizes = Sizes(24 * 9, Vec::new());
    into(&mut sizes, &request).unwrap();
    assert_eq!(sizes.1, [(3, 9), (2, 7), (2, 7), (2, 7), (2, 7)]);
    let mut sizes = Sizes(1, Vec::new());
    into(&mut sizes, &request).unwrap();
    assert_eq!(sizes.1.len(), 11);
    request.share = "10/12".parse().unwrap();
    let mut sizes = Sizes(1, Vec::new());
    into(&mut sizes, &request).unwrap();
    assert_eq!(sizes.1, [(1, 3)]);
    request.share = "0/12".parse().unwrap();
    assert!(matches!(into(&mut sizes, &request), Err(CaptureError::EmptyShare { .. })));
    let Rows::F32(rows) = &whole(Position::Last).tensors["blocks.0.hook_resid_post"] else {
        panic!("expected f32")
    };
    assert_eq!(rows.nrows(), 11);
}
