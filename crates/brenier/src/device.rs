//! Devices by name.

use burn::tensor::{Device, DeviceType};

/// A device name that names no device here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Not a name of the form `auto`, `backend` or `backend:index`.
    #[error("unknown device `{name}`: expected auto, or one of {compiled} (`:i` picks the i-th of several)")]
    Unknown {
        /// The name as given.
        name: String,
        /// The backends of this build.
        compiled: String,
    },
    /// A backend that this build was made without.
    #[error("device `{name}` is not in this build, which has {compiled}: build with the feature `{backend}`")]
    NotCompiled {
        /// The name as given.
        name: String,
        /// The backend, which is also its feature.
        backend: String,
        /// The backends of this build.
        compiled: String,
    },
    /// A backend that finds fewer devices on this machine than were asked for.
    #[error("device `{name}` is not on this machine: {backend} finds {found} device(s) here")]
    NotFound {
        /// The name as given.
        name: String,
        /// The backend.
        backend: String,
        /// Devices it finds.
        found: usize,
    },
}

/// Every backend there is a feature for, best first; `cpu` is the `flex` feature.
const BACKENDS: [&str; 6] = ["cuda", "rocm", "metal", "vulkan", "wgpu", "cpu"];

/// The backends that were compiled in, best first.
///
/// ```
/// assert!(brenier::device::compiled().contains(&"cpu"));
/// ```
#[must_use]
pub fn compiled() -> Vec<&'static str> {
    BACKENDS.into_iter().filter(|backend| device_type(backend).is_some()).collect()
}

/// The device that a name stands for.
///
/// `cpu`, `cuda`, `rocm`, `metal`, `vulkan` and `wgpu` name the first device of a backend, `cuda:1` its second;
/// `auto` is the best that was compiled in and is found on this machine.
///
/// # Errors
/// [`DeviceError`] says which names this build knows and how many devices there are.
///
/// ```
/// let device = brenier::device::by_name("cpu")?;
/// assert!(brenier::device::by_name("cpu:7").is_err());
/// # let _ = device;
/// # Ok::<(), brenier::device::DeviceError>(())
/// ```
pub fn by_name(name: &str) -> Result<Device, DeviceError> {
    let unknown = || DeviceError::Unknown { name: name.to_owned(), compiled: compiled().join(", ") };
    if name == "auto" {
        let best =
            compiled().into_iter().filter_map(device_type).find_map(|kind| found(kind).into_iter().next());
        return best.ok_or_else(unknown);
    }
    let (backend, index) = match name.split_once(':') {
        Some((backend, index)) => (backend, index.parse::<usize>().map_err(|_| unknown())?),
        None => (name, 0),
    };
    if !BACKENDS.contains(&backend) {
        return Err(unknown());
    }
    let kind = device_type(backend).ok_or_else(|| DeviceError::NotCompiled {
        name: name.to_owned(),
        backend: if backend == "cpu" { "flex".to_owned() } else { backend.to_owned() },
        compiled: compiled().join(", "),
    })?;
    let mut devices = found(kind);
    if index >= devices.len() {
        let (backend, found) = (backend.to_owned(), devices.len());
        return Err(DeviceError::NotFound { name: name.to_owned(), backend, found });
    }
    Ok(devices.swap_remove(index))
}

/// Whether a device is the CPU backend, whose memory is that of the machine.
///
/// ```
/// assert!(brenier::device::is_cpu(&brenier::device::by_name("cpu")?));
/// # Ok::<(), brenier::device::DeviceError>(())
/// ```
#[must_use]
pub fn is_cpu(device: &Device) -> bool {
    device_type("cpu").is_some_and(|kind| found(kind).contains(device))
}

fn device_type(backend: &str) -> Option<DeviceType> {
    match backend {
        #[cfg(feature = "cuda")]
        "cuda" => Some(DeviceType::Cuda),
        #[cfg(feature = "rocm")]
        "rocm" => Some(DeviceType::Rocm),
        #[cfg(feature = "metal")]
        "metal" => Some(DeviceType::Metal),
        #[cfg(feature = "vulkan")]
        "vulkan" => Some(DeviceType::Vulkan),
        #[cfg(feature = "wgpu")]
        "wgpu" => Some(DeviceType::Wgpu),
        #[cfg(feature = "flex")]
        "cpu" => Some(DeviceType::Flex),
        _ => None,
    }
}

/// The devices of a backend on this machine. A driver that is missing shows as a panic in some backends: it
/// counts as no device.
fn found(kind: DeviceType) -> Vec<Device> {
    std::panic::catch_unwind(|| Device::enumerate(kind).into_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_of_this_build_has_a_name() {
        for backend in compiled() {
            assert!(device_type(backend).is_some());
        }
        assert!(by_name("auto").is_ok());
    }

    #[test]
    fn names_that_name_nothing_are_told_apart() {
        for name in ["", "gpu", "cpu:", "cpu:x", "cpu:-1", "AUTO"] {
            assert!(matches!(by_name(name), Err(DeviceError::Unknown { .. })), "{name}");
        }
        assert!(matches!(by_name("cpu:1"), Err(DeviceError::NotFound { found: 1, .. })));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_backend_left_out_says_how_to_get_it() {
        let message = by_name("cuda").map(|_| ()).expect_err("not compiled").to_string();
        assert!(message.contains("the feature `cuda`"), "{message}");
    }
}
