//! `brenier inspect`.

use brenier::model::{ChatTemplate, Message, ModelError, Prompt, PromptOptions, RenderOptions};
use serde_json::{Value, json};

use crate::args::{Common, Inspect};
use crate::console::Console;
use crate::hub::find_model;
use crate::input::load_model;
use crate::values::Date;

pub fn run(args: &Inspect, common: &Common, console: &Console) -> anyhow::Result<()> {
    let model = load_model(&find_model(&args.model, console)?, common, console)?;
    let (spec, config) = (model.model().spec(), model.config());
    // What is missing is told as missing; what is there and broken is an error.
    present(model.require_tokenizer())?;
    let template = present(model.require_template())?;
    let token = |id: u32| model.tokenizer().and_then(|tokenizer| tokenizer.token_of(id));
    let named = |ids: &[u32]| -> Value {
        ids.iter().map(|&id| json!({"id": id, "token": token(id)})).collect::<Vec<_>>().into()
    };
    let mut result = json!({
        "architecture": spec.architecture,
        "layers": spec.layers,
        "hidden": spec.hidden,
        "vocab": spec.vocab,
        "context": spec.context,
        "intermediate": config.intermediate,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "parameters": config.parameters(),
        "tied_embeddings": config.tied,
        "rope_theta": config.rope.theta,
        "dtype": spec.dtype_name(),
        "checkpoint_dtype": config.dtype,
        "sha256": model.sha256(),
        "bos": model.bos().map(|id| named(&[id])[0].clone()),
        "eos": named(model.eos()),
        "warnings": model.warnings(),
        "template": template.map(facts),
    });
    if let Some(text) = &args.prompt {
        let date = args.date.unwrap_or_else(Date::now);
        let options = PromptOptions { raw: args.raw, system: args.system.clone(), now: Some(date.0) };
        let ids = model.prompt_ids(&Prompt::text(text.as_str()), &options)?;
        let rendered = match template {
            Some(template) if !args.raw => {
                let mut messages: Vec<Message> =
                    args.system.iter().map(|text| Message::system(text.as_str())).collect();
                messages.push(Message::user(text.as_str()));
                let now = options.now;
                let options = RenderOptions { add_generation_prompt: true, now, ..RenderOptions::default() };
                template.render_with(&messages, &options)?
            }
            _ => text.clone(),
        };
        let tokens: Vec<_> = ids.iter().map(|&id| token(id)).collect();
        let position = ids.len().saturating_sub(1);
        let shows_date = template.is_some_and(|template| !args.raw && template.uses_date());
        let date = shows_date.then(|| date.to_string());
        result["prompt"] = json!({
            "rendered": rendered, "date": date, "ids": ids, "tokens": tokens, "position": position,
        });
    }
    console.result(&result, || describe(&result))?;
    Ok(())
}

fn facts(template: &ChatTemplate) -> Value {
    json!({"source": template.source(), "sha256": template.sha256(), "shows_date": template.uses_date()})
}

fn present<T>(found: Result<T, ModelError>) -> Result<Option<T>, ModelError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(ModelError::NotFound { .. } | ModelError::NoTemplate { .. }) => Ok(None),
        Err(broken) => Err(broken),
    }
}

/// What a person reads: key, value, one a line.
const FACTS: [&str; 15] = [
    "architecture",
    "parameters",
    "layers",
    "hidden",
    "intermediate",
    "heads",
    "kv_heads",
    "head_dim",
    "vocab",
    "context",
    "rope_theta",
    "tied_embeddings",
    "dtype",
    "checkpoint_dtype",
    "sha256",
];

fn describe(result: &Value) -> String {
    let plain = |value: &Value| match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let token = |value: &Value| match value {
        Value::Null => "none".to_owned(),
        value if value["token"].is_null() => format!("id {}", value["id"]),
        value => format!("{} (id {})", plain(&value["token"]), value["id"]),
    };
    let mut facts: Vec<(&str, String)> = FACTS.iter().map(|&key| (key, plain(&result[key]))).collect();
    let eos: Vec<String> = result["eos"].as_array().into_iter().flatten().map(token).collect();
    facts.push(("bos", token(&result["bos"])));
    facts.push(("eos", if eos.is_empty() { "none".to_owned() } else { eos.join(", ") }));
    facts.push(("template", plain(&result["template"]["source"])));
    let mut text: String = facts.iter().map(|(key, value)| format!("{key:<17} {value}\n")).collect();

    let prompt = &result["prompt"];
    if !prompt.is_null() {
        text.push_str(&format!("\nrendered\n{}\n\n  #     id  token\n", plain(&prompt["rendered"])));
        let ids = prompt["ids"].as_array().into_iter().flatten();
        let tokens = prompt["tokens"].as_array().into_iter().flatten();
        for (i, (id, token)) in ids.zip(tokens).enumerate() {
            let mark = if prompt["position"] == i { "  <- captured (position last)" } else { "" };
            text.push_str(&format!("{i:>3} {:>6}  {}{mark}\n", id.to_string(), plain(token)));
        }
    }
    text
}
