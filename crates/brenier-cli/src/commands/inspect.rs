//! `brenier inspect`.

use brenier::model::{
    ChatTemplate, Message, ModelDirectory, ModelError, Prompt, PromptOptions, RenderOptions,
};
use serde_json::{Value, json};

use crate::args::{Common, Inspect};
use crate::console::Console;
use crate::hub::find_model;
use crate::memory::{Plan, size};
use crate::values::Date;

pub fn run(args: &Inspect, common: &Common, console: &Console) -> anyhow::Result<()> {
    let device = brenier::device::by_name(&common.device)?;
    let model = ModelDirectory::open(&find_model(&args.model, console)?)?;
    let mut warnings = model.warnings().to_vec();
    warnings.extend(model.check_weights()?);
    warnings.iter().for_each(|warning| console.warn(warning));
    let (config, plan) = (model.config(), Plan::new(&model, &device, common.dtype));
    // What is missing is told as missing; what is there and broken is an error.
    present(model.require_tokenizer())?;
    let template = present(model.require_template())?;
    let token = |id: u32| model.tokenizer().and_then(|tokenizer| tokenizer.token_of(id));
    let named = |ids: &[u32]| -> Value {
        ids.iter().map(|&id| json!({"id": id, "token": token(id)})).collect::<Vec<_>>().into()
    };
    let mut result = json!({
        "architecture": config.architecture.name(),
        "layers": config.layers,
        "hidden": config.hidden,
        "vocab": config.vocab,
        "context": config.context,
        "intermediate": config.intermediate,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "parameters": config.parameters(),
        "tied_embeddings": config.tied,
        "rope_theta": config.rope.theta,
        "dtype": format!("{:?}", plan.dtype).to_lowercase(),
        "checkpoint_dtype": config.dtype,
        "memory": {"weights": plan.need.weights, "run": plan.need.run, "run_tokens": plan.need.tokens, "free": plan.free},
        "sha256": model.known_sha256()?,
        "bos": model.bos().map(|id| named(&[id])[0].clone()),
        "eos": named(model.eos()),
        "warnings": warnings,
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
    let memory = |key: &str| match result["memory"][key].as_u64() {
        Some(bytes) => size(bytes),
        None => "not known".to_owned(),
    };
    facts.push((
        "memory",
        format!(
            "{} weights, {} for a prompt of {} tokens; {} free",
            memory("weights"),
            memory("run"),
            result["memory"]["run_tokens"],
            memory("free"),
        ),
    ));
    if result["sha256"].is_null() {
        facts.retain(|(key, _)| *key != "sha256");
        facts.push(("sha256", "not computed yet: it takes reading all weights".to_owned()));
    }
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
