//! The formats of prompt files.

use csv::{ErrorKind, StringRecord};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Answer, Extra, Prompt, PromptFormat, PromptInput};
use crate::ModelError;
use crate::error::excerpt;
use crate::fields::kind;
use crate::files::TextFile;

const EXPECTED_LINE: &str = r#"a JSON object such as {"prompt": "..."} or {"ids": [1, 5]}"#;
const EXPECTED_HEADER: &str =
    "a header with the column `goal` (AdvBench), `Behavior` (HarmBench) or `Goal` (JailbreakBench)";

pub(super) fn prompts(file: &TextFile, format: PromptFormat) -> Result<Vec<Prompt>, ModelError> {
    let format = if format == PromptFormat::Auto { detect(file)? } else { format };
    match format {
        PromptFormat::Jsonl => {
            let prompts = objects(file, EXPECTED_LINE)?
                .into_iter()
                .map(|(line, object)| prompt_of(file, line, object))
                .collect::<Result<_, _>>()?;
            file.not_empty(prompts, EXPECTED_LINE)
        }
        PromptFormat::AdvbenchCsv => table(file, "goal"),
        PromptFormat::HarmbenchCsv => table(file, "Behavior"),
        PromptFormat::JailbreakbenchCsv => table(file, "Goal"),
        PromptFormat::AlpacaJson => alpaca(file),
        PromptFormat::Auto | PromptFormat::Lines => {
            let prompts = file.lines().map(|(line, text)| Prompt { line: Some(line), ..Prompt::text(text) });
            let prompts = prompts.collect();
            file.not_empty(prompts, "one prompt a line")
        }
    }
}

pub(super) fn answers(file: &TextFile) -> Result<Vec<Answer>, ModelError> {
    const EXPECTED: &str = r#"a JSON object such as {"prompt": "...", "answer": "..."}"#;
    let answers = objects(file, EXPECTED)?
        .into_iter()
        .map(|(line, object)| {
            let text = |key: &str| match object.text(key).map(string) {
                Some(Ok(text)) => Ok(text),
                Some(Err(found)) => {
                    Err(file.at(line, &format!("a string as `{key}`"), &found, "put it in quotes"))
                }
                None => Err(file.at(line, EXPECTED, &keys(&object), &format!("add `{key}`"))),
            };
            Ok(Answer { prompt: text("prompt")?, answer: text("answer")? })
        })
        .collect::<Result<_, ModelError>>()?;
    file.not_empty(answers, EXPECTED)
}

/// Extension first, then what the file begins with.
fn detect(file: &TextFile) -> Result<PromptFormat, ModelError> {
    let extension = file.path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let start = file.text.trim_start();
    let first = start.lines().next().unwrap_or_default();
    let header = header_format(first);
    let array = start.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with(['{', ']']));
    match extension.as_str() {
        "jsonl" | "ndjson" => Ok(PromptFormat::Jsonl),
        "json" if start.starts_with('[') => Ok(PromptFormat::AlpacaJson),
        "json" => Ok(PromptFormat::Jsonl),
        "csv" if start.is_empty() => Ok(PromptFormat::AdvbenchCsv),
        "csv" => header.ok_or_else(|| no_header(file, EXPECTED_HEADER, first)),
        // A text file may well begin with a brace; only a whole object speaks for JSONL.
        "txt" if serde_json::from_str::<Extra>(first).is_err() => Ok(PromptFormat::Lines),
        _ if start.starts_with('{') => Ok(PromptFormat::Jsonl),
        _ if array => Ok(PromptFormat::AlpacaJson),
        _ => Ok(header.filter(|_| first.contains(',')).unwrap_or(PromptFormat::Lines)),
    }
}

/// JailbreakBench has a `Behavior` too (a short name), so its `Goal` is looked for first.
fn header_format(line: &str) -> Option<PromptFormat> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line.as_bytes());
    let header = reader.records().next()?.ok()?;
    let has = |name: &str| header.iter().any(|column| column.trim() == name);
    if has("Goal") {
        Some(PromptFormat::JailbreakbenchCsv)
    } else if has("goal") {
        Some(PromptFormat::AdvbenchCsv)
    } else if has("Behavior") || has("behavior") {
        Some(PromptFormat::HarmbenchCsv)
    } else {
        None
    }
}

/// The JSON objects of a JSONL file with their line numbers.
fn objects(file: &TextFile, expected: &str) -> Result<Vec<(usize, Extra)>, ModelError> {
    let object = |(line, text): (usize, &str)| {
        let hint = "correct the line or remove it";
        let object = object(text).map_err(|found| file.at(line, expected, &found, hint))?;
        match object.twice() {
            None => Ok((line, object)),
            Some(key) => {
                let found = format!("`{key}` twice");
                Err(file.at(line, "each key once", &found, "keep the one that is meant"))
            }
        }
    };
    file.lines().map(object).collect()
}

/// A JSON object, or what there is in its place.
fn object(text: &str) -> Result<Extra, String> {
    serde_json::from_str(text).map_err(|e| match serde_json::from_str::<Value>(text) {
        Ok(other) if e.is_data() => kind(&other),
        _ => reason(&e),
    })
}

/// The text of a JSON string, or what there is in its place.
fn string(text: &str) -> Result<String, String> {
    match serde_json::from_str(text) {
        Ok(Value::String(text)) => Ok(text),
        Ok(other) => Err(kind(&other)),
        Err(e) => Err(reason(&e)),
    }
}

/// What serde_json objects to, with the column but without the line, which is the file's and not the text's.
fn reason(e: &serde_json::Error) -> String {
    let message = e.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    format!("{message} at column {} (counted from 1)", e.column())
}

fn prompt_of(file: &TextFile, line: usize, mut object: Extra) -> Result<Prompt, ModelError> {
    let input = if let Some(text) = object.remove("ids") {
        let expected = "`ids` to be a list of at least one token id (integers from 0)";
        let wrong = |found: &str| file.at(line, expected, found, "give the ids as the tokenizer does");
        let ids: Vec<Box<RawValue>> = match serde_json::from_str(text.get()) {
            Ok(ids) => ids,
            Err(_) => {
                return Err(wrong(
                    &serde_json::from_str(text.get()).map_or_else(|_| text.to_string(), |ids| kind(&ids)),
                ));
            }
        };
        if ids.is_empty() {
            return Err(wrong("an empty list"));
        }
        let id = |id: &RawValue| id.get().parse().map_err(|_| wrong(id.get()));
        PromptInput::Ids(ids.iter().map(|text| id(text)).collect::<Result<_, _>>()?)
    } else {
        match object.remove("prompt").map(|text| string(text.get())) {
            Some(Ok(text)) => PromptInput::Text(text),
            Some(Err(found)) => {
                return Err(file.at(line, "`prompt` to be a string", &found, "put it in quotes"));
            }
            None => return Err(file.at(line, EXPECTED_LINE, &keys(&object), "name the text `prompt`")),
        }
    };
    Ok(Prompt { input, extra: object, line: Some(line) })
}

/// The error of a CSV file whose header is another.
fn no_header(file: &TextFile, expected: &str, found: &str) -> ModelError {
    let (expected, found) = (expected.to_owned(), excerpt(found));
    ModelError::Header { path: file.path.clone(), expected, found }
}

/// A CSV file whose prompts stand in `column`.
fn table(file: &TextFile, column: &str) -> Result<Vec<Prompt>, ModelError> {
    let expected = format!("a CSV header with the column `{column}`");
    let mut reader = csv::Reader::from_reader(file.text.as_bytes());
    let header = reader.headers().map_err(|e| csv_error(file, &e))?.clone();
    let find = |name: &str| header.iter().position(|h| h.trim().eq_ignore_ascii_case(name));
    let Some(at) = find(column) else {
        if file.text.trim().is_empty() {
            return file.not_empty(Vec::new(), &expected);
        }
        let found = header.iter().collect::<Vec<_>>().join(", ");
        return Err(no_header(file, &expected, &found));
    };
    if let Some(name) = header.iter().enumerate().find(|(i, name)| header.iter().take(*i).any(|h| h == *name))
    {
        let found = format!("`{}` twice", name.1);
        return Err(file.at(1, "each column once", &found, "give every column a name of its own"));
    }
    let context = find("ContextString").filter(|_| column == "Behavior");
    let cell = |record: &StringRecord, i: usize| record.get(i).unwrap_or_default().to_owned();
    let mut prompts = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| csv_error(file, &e))?;
        let line = line_of(file, record.position());
        let text = cell(&record, at);
        if text.trim().is_empty() {
            let expected = format!("a prompt in the column `{column}`");
            return Err(file.at(line, &expected, "nothing", "fill it in or take the record out"));
        }
        if reader_ran_over(file, &record) {
            let hint = "close the quote of this record";
            return Err(file.at(line, "every quoted field to be closed", "the end of the file", hint));
        }
        let text = match context.map(|i| cell(&record, i)).filter(|c| !c.is_empty()) {
            Some(context) => format!("{context}\n\n---\n\n{text}"),
            None => text,
        };
        let others = header.iter().enumerate().filter(|(i, _)| *i != at);
        let extra = others.map(|(i, name)| (name, Value::from(cell(&record, i)))).collect();
        prompts.push(Prompt { input: PromptInput::Text(text), extra, line: Some(line) });
    }
    file.not_empty(prompts, &format!("records below the header, prompts in the column `{column}`"))
}

fn csv_error(file: &TextFile, e: &csv::Error) -> ModelError {
    match e.kind() {
        ErrorKind::UnequalLengths { pos, expected_len, len } => file.at(
            line_of(file, pos.as_ref()),
            &format!("{expected_len} columns as in the header"),
            &len.to_string(),
            "quote fields that hold commas",
        ),
        _ => file.at(line_of(file, e.position()), "a CSV record", &e.to_string(), "correct the record"),
    }
}

/// The line a record begins on; the reader's own count stands before any blank lines it skips.
fn line_of(file: &TextFile, position: Option<&csv::Position>) -> usize {
    let Some(position) = position else { return 1 };
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX).min(file.text.len());
    let rest = file.text.as_bytes().get(start..).unwrap_or_default();
    let skipped = rest.iter().take_while(|b| matches!(b, b'\n' | b'\r')).filter(|b| **b == b'\n').count();
    let before = file.text.as_bytes().get(..start).unwrap_or_default();
    1 + before.iter().filter(|b| **b == b'\n').count() + skipped
}

/// Whether a quote left open swallowed the rest of the file: quotes do not pair, and a field runs over lines
/// to the very end.
fn reader_ran_over(file: &TextFile, record: &StringRecord) -> bool {
    let end = file.text.trim_end();
    let last = record.get(record.len().saturating_sub(1)).unwrap_or_default();
    last.contains('\n')
        && end.ends_with(last.trim_end())
        && file.text.bytes().filter(|b| *b == b'"').count() % 2 == 1
}

/// A JSON array of `{"instruction", "input", "output"}`.
fn alpaca(file: &TextFile) -> Result<Vec<Prompt>, ModelError> {
    const EXPECTED: &str = r#"a JSON array of {"instruction": "...", "input": "..."}"#;
    if file.text.trim().is_empty() {
        return file.not_empty(Vec::new(), EXPECTED);
    }
    let array: Vec<&RawValue> = serde_json::from_str(&file.text).map_err(|e| {
        file.at(e.line(), EXPECTED, &reason(&e), "correct it there; a file of one object a line is jsonl")
    })?;
    let mut prompts = Vec::with_capacity(array.len());
    let (mut line, mut seen) = (1, 0);
    for (record, text) in array.into_iter().map(RawValue::get).enumerate() {
        // Each record is a piece of the file's text.
        let start = text.as_ptr().addr() - file.text.as_ptr().addr();
        let between = file.text.as_bytes().get(seen..start).unwrap_or_default();
        line += between.iter().filter(|b| **b == b'\n').count();
        seen = start;
        let wrong = |expected: &str, found: &str| ModelError::Record {
            path: file.path.clone(),
            line,
            record,
            expected: expected.to_owned(),
            found: excerpt(found),
        };
        let mut object = object(text).map_err(|found| wrong(r#"an object with "instruction""#, &found))?;
        if let Some(key) = object.twice() {
            return Err(wrong("each key once", &format!("`{key}` twice")));
        }
        let text = match object.remove("instruction").map(|text| string(text.get())) {
            Some(Ok(text)) if !text.trim().is_empty() => text,
            Some(Ok(_)) => return Err(wrong("text as `instruction`", "an empty string")),
            Some(Err(found)) => return Err(wrong("a string as `instruction`", &found)),
            None => return Err(wrong("the key `instruction`", &keys(&object))),
        };
        let input = object.remove("input").filter(|input| input.get() != "null");
        let text = match input.map(|input| string(input.get())) {
            None => text,
            Some(Ok(input)) if input.is_empty() => text,
            Some(Ok(input)) => format!("{text}\n{input}"),
            Some(Err(found)) => return Err(wrong("a string as `input`", &found)),
        };
        prompts.push(Prompt { input: PromptInput::Text(text), extra: object, line: Some(line) });
    }
    file.not_empty(prompts, EXPECTED)
}

/// The keys of an object, for an error.
fn keys(object: &Extra) -> String {
    if object.is_empty() {
        return "no keys".to_owned();
    }
    let names: Vec<_> = object.iter().map(|(key, _)| key).collect();
    format!("the keys {}", names.join(", "))
}
