//! Checkpoints of `tests/golden/models`, edited.
#![allow(clippy::unwrap_used, dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use brenier_model::{LanguageModel, ModelError};
use brenier_residual::{Batch, ResidualModel, Row};
use burn::tensor::Device;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde_json::Value;
use tempfile::TempDir;

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models").join(name)
}

pub fn cases() -> Value {
    serde_json::from_slice(&std::fs::read(golden("facts/cases.json")).unwrap()).unwrap()
}

/// Name to dtype, shape and bytes.
pub type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// A copy of a checkpoint, to be edited.
pub struct Model(pub TempDir);

impl Model {
    pub fn copy(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(golden(name)).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_owned();
            if file != "expected.safetensors" && file != "cases.json" {
                std::fs::copy(&path, dir.path().join(file)).unwrap();
            }
        }
        Self(dir)
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    pub fn write(&self, file: &str, content: &Value) {
        std::fs::write(self.path(file), content.to_string()).unwrap();
    }

    pub fn config(&self, edit: impl FnOnce(&mut serde_json::Map<String, Value>)) {
        let mut config: Value =
            serde_json::from_slice(&std::fs::read(self.path("config.json")).unwrap()).unwrap();
        edit(config.as_object_mut().unwrap());
        self.write("config.json", &config);
    }

    pub fn set(&self, keys: Value) {
        let Value::Object(keys) = keys else { panic!("keys of config.json") };
        self.config(|config| config.extend(keys));
    }

    pub fn tensors(&self, edit: impl FnOnce(&mut Tensors)) {
        let file = self.path("model.safetensors");
        let mut tensors = tensors_of(&file);
        edit(&mut tensors);
        write_tensors(&file, &tensors);
    }

    pub fn case(case: &Value) -> Self {
        let model = Self::copy("facts");
        model.config(|config| {
            config.extend(case["config"].as_object().cloned().unwrap_or_default());
            for key in case["remove"].as_array().into_iter().flatten() {
                config.remove(key.as_str().unwrap()).unwrap();
            }
        });
        if case["generation"].is_object() {
            model.write("generation_config.json", &case["generation"]);
        }
        model.tensors(|tensors| {
            for op in case["tensors"].as_array().into_iter().flatten() {
                let name = |at: usize| op[at].as_str().unwrap().to_owned();
                match op[0].as_str().unwrap() {
                    "fill" => {
                        let width = op[2].as_u64().unwrap() as usize;
                        tensors.insert(name(1), floats(&vec![1.0; width], &[width]));
                    }
                    "copy" => drop(tensors.insert(name(2), tensors[&name(1)].clone())),
                    "drop" => drop(tensors.remove(&name(1)).unwrap()),
                    _ => {
                        let tensor = tensors.remove(&name(1)).unwrap();
                        tensors.insert(name(2), tensor);
                    }
                }
            }
        });
        model
    }

    pub fn load(&self) -> Result<LanguageModel, ModelError> {
        LanguageModel::load(self.0.path(), &Device::flex(), None)
    }

    /// Loading fails with one line that holds all of `parts`.
    #[track_caller]
    pub fn refused(&self, parts: &[&str]) {
        let message = self.load().unwrap_err().to_string();
        assert!(!message.contains('\n') && message.len() < 500, "{message}");
        for part in parts {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }

    /// Loading succeeds with exactly one warning, which holds all of `parts`.
    #[track_caller]
    pub fn warned(&self, parts: &[&str]) -> LanguageModel {
        let model = self.load().unwrap();
        let [warning] = model.warnings() else { panic!("one warning: {:?}", model.warnings()) };
        assert!(!warning.contains('\n'), "{warning}");
        for part in parts {
            assert!(warning.contains(part), "`{part}` is not in: {warning}");
        }
        model
    }
}

pub fn tensors_of(file: &Path) -> Tensors {
    let bytes = std::fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
    tensors.iter().map(|(name, view)| (name.to_owned(), tensor(view))).collect()
}

pub fn write_tensors(file: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    std::fs::write(file, serialize(views, None).unwrap()).unwrap();
}

pub fn floats(values: &[f32], shape: &[usize]) -> (Dtype, Vec<usize>, Vec<u8>) {
    (Dtype::F32, shape.to_vec(), values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

pub fn scale(tensor: &mut (Dtype, Vec<usize>, Vec<u8>), factor: f32) {
    for bytes in tensor.2.as_chunks_mut::<4>().0 {
        *bytes = (f32::from_le_bytes(*bytes) * factor).to_le_bytes();
    }
}

/// Logits of a prompt's last token.
pub fn logits(model: &dyn ResidualModel, prompt: &[u32]) -> Vec<f32> {
    let batch = Batch::new(&[Row::prompt(prompt)], &Device::flex()).unwrap();
    model.forward_last(&batch, None, &mut ()).unwrap().into_data().iter::<f32>().collect()
}

pub fn prompts(value: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(value.clone()).unwrap()
}
