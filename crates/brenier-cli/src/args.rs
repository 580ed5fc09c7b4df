//! Every argument of the program.

use std::path::PathBuf;

use brenier::capture::{Position, Share};
use brenier::residual::{Site, TokenSet};
use brenier::transport;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::fit_args::FitArgs;
use crate::select::{Batch, Dtype, Layers};
use crate::values::{Date, count, share, strength, temperature};

/// Capture the activations of a language model, fit optimal-transport maps between two sets of them, apply the
/// maps inside the forward pass, and measure what that did.
#[derive(Debug, Parser)]
#[command(name = "brenier", version, about, propagate_version = true)]
#[command(
    after_help = "Begin with `brenier demo`. Exit codes: 0 done, 2 wrong usage or bad input, 1 anything else."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub common: Common,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Where to compute: `auto`, `cpu`, or `cuda`, `rocm`, `metal`, `vulkan`, `wgpu` where compiled in (`cuda:1` is the
    /// second)
    #[arg(long, global = true, default_value = "auto", value_name = "DEVICE")]
    pub device: String,
    /// Dtype of the weights; `auto` is the checkpoint's own on a GPU, and on a CPU `f32` where it fits, else `bf16`
    #[arg(long, global = true, default_value = "auto", value_name = "auto|f32|bf16|f16")]
    pub dtype: Dtype,
    /// Seed of everything that draws
    #[arg(long, global = true, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Prompts computed at once, `1` to `65536`; `auto` goes by the prompts' length and the model's width
    #[arg(long, global = true, allow_negative_numbers = true, default_value = "auto", value_name = "N|auto")]
    pub batch: Batch,
    /// No progress and no tables, only errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// The result as JSON on stdout, and nothing else there
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The whole study on the built-in model: no argument, no download, about a minute
    Demo(Demo),
    /// What a model directory holds, and what becomes of a prompt
    Inspect(Inspect),
    /// Activations of prompts, to a file
    Capture(Capture),
    /// The shards of a capture as one file, of rows or of moments
    Merge(Merge),
    /// Maps between two activation files, with their certificates
    Fit(Fit),
    /// Maps on activation rows, off-line
    Apply(Apply),
    /// Completions, with or without maps in the forward pass
    Generate(Generate),
    /// Refusals, right answers, perplexity and KL, with or without maps
    Score(Score),
    /// The protocol: capture and fit on train, choose on val, report every method on test
    Study(Study),
}

#[derive(Debug, Args)]
pub struct Demo {
    /// Where to write; a former demo there is replaced
    #[arg(long, default_value = "brenier-demo", value_name = "DIR")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Model: a directory in Hugging Face layout (config.json, *.safetensors, tokenizer.json), or a name on the Hub,
    /// found in the Hugging Face cache or downloaded into it
    #[arg(long = "model", value_name = "DIR|ORG/NAME")]
    pub name: PathBuf,
    /// Branch, tag or commit of a model by name; main unless given
    #[arg(long, value_name = "REV")]
    pub revision: Option<String>,
}

/// How prompts are put to the model.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Prompts")]
pub struct PromptArgs {
    /// Put prompts to the model as they are, without its chat template
    #[arg(long)]
    pub raw: bool,
    /// A system message before each prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub system: Option<String>,
    /// What a chat template that shows the date takes for now, `2026-01-31` or `2026-01-31T12:00:00`; without it the date
    /// that a map was fitted with, else the local time
    #[arg(long, value_name = "YYYY-MM-DD[THH:MM:SS]")]
    pub date: Option<Date>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Auto,
    Jsonl,
    AdvbenchCsv,
    HarmbenchCsv,
    JailbreakbenchCsv,
    AlpacaJson,
    Lines,
}

#[derive(Debug, Args)]
pub struct Inspect {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Show this prompt rendered, its token ids, and the position that is captured
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Take the prompt as it is, without the chat template
    #[arg(long, requires = "prompt")]
    pub raw: bool,
    /// A system message before the prompt
    #[arg(long, value_name = "TEXT", requires = "prompt", conflicts_with = "raw")]
    pub system: Option<String>,
    /// What a chat template that shows the date takes for now, `2026-01-31` or `2026-01-31T12:00:00`; without it the local
    /// time
    #[arg(long, value_name = "YYYY-MM-DD[THH:MM:SS]", requires = "prompt")]
    pub date: Option<Date>,
}

#[derive(Debug, Args)]
pub struct Capture {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Prompt file; `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub prompts: PathBuf,
    /// Format of the prompt file; `auto` goes by its name and how it begins
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    pub format: Format,
    /// Activation file to write (safetensors); with `--to rows` a directory
    #[arg(long, value_name = "FILE|DIR")]
    pub out: PathBuf,
    /// Where in a block, comma-separated: `resid_pre`, `attn_out`, `resid_mid`, `mlp_out`, `resid_post`; or `logits`
    #[arg(long, default_value = "resid_post", value_delimiter = ',', num_args = 1.., value_name = "SITE")]
    pub sites: Vec<CaptureSite>,
    /// Decoder blocks, counted from 0: `all`, numbers and ranges (`3,5-9`), or depth (`40%-60%`)
    #[arg(long, default_value = "all", value_name = "LAYERS")]
    pub layers: Layers,
    /// Tokens: `last`, `all`, or `-K..` for the last K of each prompt
    #[arg(long, default_value = "last", allow_hyphen_values = true, value_name = "last|all|-K..")]
    pub position: Position,
    #[command(flatten)]
    pub prompt: PromptArgs,
    /// Many prompts in bounded memory: `rows` writes a directory of files, part by part, `moments` a file of means and
    /// covariances
    #[arg(long, value_enum, value_name = "rows|moments", help_heading = "Many prompts")]
    pub to: Option<CaptureTo>,
    /// Only share I of N of the prompts, counted from 0: `0/8`
    #[arg(
        long,
        requires = "to",
        allow_hyphen_values = true,
        value_name = "I/N",
        help_heading = "Many prompts"
    )]
    pub shard: Option<Share>,
    /// Go on where the same capture was interrupted; begins where there is nothing yet
    #[arg(long, requires = "to", conflicts_with = "force", help_heading = "Many prompts")]
    pub resume: bool,
    /// Prompts to a part, `1` to `1000000`: what is written at once; without it as many as make 256 MiB of rows
    #[arg(
        long,
        requires = "to",
        allow_negative_numbers = true,
        value_parser = count::<1, 1_000_000>,
        value_name = "N",
        help_heading = "Many prompts"
    )]
    pub part: Option<usize>,
    /// Directions that a covariance keeps at least, `1` to `1000000`: nothing is lost from the model's width on; memory is
    /// 16 bytes times this times the width for each tensor
    #[arg(
        long,
        requires = "to",
        default_value_t = 512,
        allow_negative_numbers = true,
        value_parser = count::<1, 1_000_000>,
        value_name = "N",
        help_heading = "Many prompts"
    )]
    pub moments_cap: usize,
    /// Map file: activations are captured with these maps in the forward pass, which acts before it is looked at
    #[arg(long, value_name = "FILE", help_heading = "Intervention")]
    pub map: Option<PathBuf>,
    /// Layers for the maps to act on, counted from 0; without it where the map file's entries are named after
    #[arg(long, requires = "map", value_name = "LAYERS", help_heading = "Intervention")]
    pub map_layers: Option<Layers>,
    /// How far to go along the map, `0` not at all, `1` all the way; without it as the map file records, else `1`
    #[arg(
        long,
        requires = "map",
        allow_hyphen_values = true,
        value_parser = strength,
        value_name = "X",
        help_heading = "Intervention"
    )]
    pub strength: Option<f64>,
    /// Tokens to act on, `last` is the last of the prompt; without it as the map file records, else `last+generated`
    #[arg(long, requires = "map", value_enum, help_heading = "Intervention")]
    pub tokens: Option<Tokens>,
    /// Use a map that was fitted on another model, or with prompts put to it in another way; what differs is said
    #[arg(long, requires = "map", help_heading = "Intervention")]
    pub allow_mismatch: bool,
    /// Overwrite the output
    #[arg(long)]
    pub force: bool,
}

/// What a capture of many prompts writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CaptureTo {
    Rows,
    Moments,
}

#[derive(Debug, Args)]
pub struct Merge {
    /// Directory with all shards of a capture: rows, or files of moments
    #[arg(long = "in", value_name = "DIR")]
    pub input: PathBuf,
    /// File to write (safetensors)
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Overwrite the output
    #[arg(long)]
    pub force: bool,
}

/// A site of a block, or the logits after the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureSite {
    Block(Site),
    Logits,
}

impl std::str::FromStr for CaptureSite {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "logits" => Ok(Self::Logits),
            _ => name.parse().map(Self::Block).map_err(|_| {
                "expected resid_pre, attn_out, resid_mid, mlp_out, resid_post or logits".to_owned()
            }),
        }
    }
}

#[derive(Debug, Args)]
pub struct Fit {
    /// Activations of the behaviour to be changed, or their moments: a file, or a directory with all shards
    #[arg(long, value_name = "FILE|DIR")]
    pub source: PathBuf,
    /// Activations to be reached, or their moments
    #[arg(long, value_name = "FILE|DIR")]
    pub target: PathBuf,
    /// Held-out source rows for the certificate
    #[arg(long, value_name = "FILE", requires = "target_val")]
    pub source_val: Option<PathBuf>,
    /// Held-out target rows for the certificate
    #[arg(long, value_name = "FILE", requires = "source_val")]
    pub target_val: Option<PathBuf>,
    /// Map file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// `pca-ot`, `gated`, `mixture`, `ot`, `entropic`, `mean`, `rfa`, `ace`, `leace`, `act-mean`, `act-linear`,
    /// `act-gaussian` or `whitening`
    #[arg(long, default_value = "pca-ot", value_name = "NAME")]
    pub method: transport::Method,
    #[command(flatten)]
    pub options: FitArgs,
    /// Only the tensors of these layers, counted from 0: `all`, `3,5-9` or `40%-60%`
    #[arg(long, default_value = "all", value_name = "LAYERS")]
    pub layers: Layers,
    /// Tokens that the maps are to act on, for the map file; `all` for rfa, else `last+generated`
    #[arg(long, value_enum, help_heading = "Recorded in the map file")]
    pub tokens: Option<Tokens>,
    /// How far to go along the maps, for the map file; without it `1`
    #[arg(
        long,
        allow_hyphen_values = true,
        value_parser = strength,
        value_name = "X",
        help_heading = "Recorded in the map file"
    )]
    pub strength: Option<f64>,
    /// Fit although the activations were made in different ways; what differs is recorded
    #[arg(long)]
    pub allow_mismatch: bool,
    /// Overwrite the output
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Apply {
    /// Map file
    #[arg(long, value_name = "FILE")]
    pub map: PathBuf,
    /// Activation file to read
    #[arg(long = "in", value_name = "FILE")]
    pub input: PathBuf,
    /// Activation file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// How far to go along the map, `0` not at all, `1` all the way; without it as the map file records, else `1`
    #[arg(long, allow_hyphen_values = true, value_parser = strength, value_name = "X")]
    pub strength: Option<f64>,
    /// The tensor to map, where its name is not the map's
    #[arg(long, value_name = "NAME")]
    pub tensor: Option<String>,
    /// The entry of the map file, where it holds several and none has the tensor's name
    #[arg(long, value_name = "NAME", requires = "tensor")]
    pub entry: Option<String>,
    /// Apply a map that was fitted on activations made in another way; what differs is said
    #[arg(long)]
    pub allow_mismatch: bool,
    /// Overwrite the output
    #[arg(long)]
    pub force: bool,
}

/// Maps in the forward pass.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Intervention")]
pub struct MapArgs {
    /// Map file; without it the model runs untouched
    #[arg(long, value_name = "FILE")]
    pub map: Option<PathBuf>,
    /// Layers to act on, counted from 0: those of the file's entries to use, or where its only entry is to go
    #[arg(long, requires = "map", value_name = "LAYERS")]
    pub layers: Option<Layers>,
    /// How far to go along the map, `0` not at all, `1` all the way; without it as the map file records, else `1`
    #[arg(long, requires = "map", allow_hyphen_values = true, value_parser = strength, value_name = "X")]
    pub strength: Option<f64>,
    /// Tokens to act on, `last` is the last of the prompt; without it as the map file records, else `last+generated`
    #[arg(long, requires = "map", value_enum)]
    pub tokens: Option<Tokens>,
    /// Use a map that was fitted on another model, or with prompts put to it in another way; what differs is said
    #[arg(long, requires = "map")]
    pub allow_mismatch: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tokens {
    All,
    Prompt,
    Last,
    Generated,
    #[value(name = "last+generated")]
    LastAndGenerated,
}

impl From<Tokens> for TokenSet {
    fn from(tokens: Tokens) -> Self {
        match tokens {
            Tokens::All => Self::All,
            Tokens::Prompt => Self::Prompt,
            Tokens::Last => Self::Last,
            Tokens::Generated => Self::Generated,
            Tokens::LastAndGenerated => Self::LastAndGenerated,
        }
    }
}

#[derive(Debug, Args)]
pub struct Generate {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Prompt file; `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub prompts: PathBuf,
    /// Format of the prompt file; `auto` goes by its name and how it begins
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    pub format: Format,
    /// JSONL file to write; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    #[command(flatten)]
    pub map: MapArgs,
    #[command(flatten)]
    pub sampling: Sampling,
    #[command(flatten)]
    pub prompt: PromptArgs,
    /// Overwrite the output
    #[arg(long)]
    pub force: bool,
}

/// How many tokens may be asked for; where the context ends, so does a completion.
const NEW_TOKENS: fn(&str) -> Result<usize, String> = count::<1, 1_000_000>;

/// How tokens are chosen.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub struct Sampling {
    /// Most tokens to generate, `1` to `1000000`
    #[arg(long, default_value_t = 128, allow_negative_numbers = true, value_parser = NEW_TOKENS, value_name = "N")]
    pub max_new_tokens: usize,
    /// Draw at this temperature; without it, or at `0`, the likeliest token is taken
    #[arg(long, allow_negative_numbers = true, value_parser = temperature, value_name = "T")]
    pub temperature: Option<f64>,
    /// Draw among the K likeliest, `1` to `1000000`
    #[arg(
        long,
        allow_negative_numbers = true,
        value_parser = count::<1, 1_000_000>,
        requires = "temperature",
        value_name = "K"
    )]
    pub top_k: Option<usize>,
    /// Draw among the likeliest that together have probability P, above 0 and at most `1`
    #[arg(
        long,
        allow_negative_numbers = true,
        value_parser = share,
        requires = "temperature",
        value_name = "P"
    )]
    pub top_p: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Match {
    /// The trimmed completion is the answer
    Exact,
    /// The completion holds the answer
    Contains,
}

#[derive(Debug, Args)]
pub struct Score {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Prompts whose completions are judged
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// Format of the prompt file; `auto` goes by its name and how it begins
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    pub format: Format,
    /// Right answers to the prompts, `{"prompt", "answer"}` a line
    #[arg(long, value_name = "FILE", requires = "prompts")]
    pub answers: Option<PathBuf>,
    /// When an answer is right
    #[arg(long = "match", value_enum, default_value_t = Match::Exact)]
    pub matching: Match,
    /// A JSON list of phrases that make a completion a refusal; without it the published list
    #[arg(long, value_name = "FILE")]
    pub refusal_phrases: Option<PathBuf>,
    /// Passages for perplexity, one a line
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Prompts for the KL divergence from the untouched model
    #[arg(long, value_name = "FILE", requires = "map")]
    pub harmless: Option<PathBuf>,
    /// Most tokens to generate, `1` to `1000000`
    #[arg(long, default_value_t = 64, allow_negative_numbers = true, value_parser = NEW_TOKENS, value_name = "N")]
    pub max_new_tokens: usize,
    #[command(flatten)]
    pub map: MapArgs,
    #[command(flatten)]
    pub prompt: PromptArgs,
    /// Also write the JSON here
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Overwrite the output
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Study {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Directory with {source,target}_{train,val,test}.jsonl and, optionally, answers, text.txt and
    /// refusal_phrases.json
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Directory to write report.json, report.html, manifest.json and maps/ into
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Layers to try, counted from 0: `all`, `3,5-9` or `40%-60%`
    #[arg(long, default_value = "all", value_name = "LAYERS")]
    pub layers: Layers,
    /// Numbers of principal components to try, each `1` to `65536`, such as `1,2,4`
    #[arg(
        long,
        allow_negative_numbers = true,
        value_delimiter = ',',
        num_args = 1..,
        value_parser = count::<1, 65_536>,
        value_name = "K,K,.."
    )]
    pub components: Vec<usize>,
    /// Methods to report, such as `pca-ot,ace`
    #[arg(long, value_delimiter = ',', num_args = 1.., value_name = "NAME,..")]
    pub methods: Vec<transport::Method>,
    /// When an answer is right
    #[arg(long = "match", value_enum, default_value_t = Match::Exact)]
    pub matching: Match,
    /// Most tokens to generate, `1` to `1000000`
    #[arg(long, default_value_t = 64, allow_negative_numbers = true, value_parser = NEW_TOKENS, value_name = "N")]
    pub max_new_tokens: usize,
    #[command(flatten)]
    pub prompt: PromptArgs,
    /// Overwrite the output
    #[arg(long)]
    pub force: bool,
}
