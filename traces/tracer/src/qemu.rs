//! QEMU's plugin interface, as far as it is used here, from the version of QEMU 7.2 on.
//!
//! Nothing of QEMU is linked: entry points are looked up by name in the process that loaded us, so that one file serves every
//! version, and so that whoever takes this crate as a library need not have any. Declarations after `qemu-plugin.h`
//! (QEMU 7.2: version 1; 8.2: version 2; 9.1: version 3; 9.2 and 10.0: version 4).
//!
//! What differs between them: QEMU refuses plugins that announce a version newer than its own or older than its oldest (0 until
//! 8.1, then 2), see [`crate::plugin_file`]; and since version 3 `qemu_plugin_insn_data` copies instead of returning a pointer.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

/// Who we are to QEMU.
pub(crate) type PluginId = u64;
/// A translated block, while it is translated.
#[repr(C)]
pub(crate) struct Tb([u8; 0]);
/// An instruction of it.
#[repr(C)]
pub(crate) struct Insn([u8; 0]);

/// What QEMU says of itself when it loads us.
#[repr(C)]
pub(crate) struct Info {
    pub(crate) target_name: *const c_char,
    pub(crate) oldest_version: c_int,
    pub(crate) version: c_int,
    pub(crate) system_emulation: bool,
}

/// Callbacks that read no registers.
pub(crate) const NO_REGISTERS: c_int = 0;
/// Callbacks on loads and stores.
///
/// One for both, always: QEMU 7.2 calls those that are registered for one kind at the wrong time (its `op_rw` compares a mask with a
/// mask plus one), and of several on one instruction stops at the first that is not for the access at hand.
const LOADS_AND_STORES: c_int = 3;

/// Bit of [`kind`].
pub(crate) const LOADS: u32 = 1;
/// Bit of [`kind`]. An atomic instruction may have both.
pub(crate) const STORES: u32 = 2;
/// What reads and writes.
pub(crate) const BOTH: u32 = LOADS | STORES;

/// What an access is, from its description. A call for each would cost more than all else that is done with it.
#[inline(always)]
pub(crate) fn kind(description: u32) -> u32 {
    description >> 16
}

pub(crate) type OnBlockTranslated = unsafe extern "C" fn(PluginId, *mut Tb);
pub(crate) type OnCpu = unsafe extern "C" fn(PluginId, c_uint);
pub(crate) type OnBlock = unsafe extern "C" fn(c_uint, *mut c_void);
pub(crate) type OnAccess = unsafe extern "C" fn(c_uint, u32, u64, *mut c_void);
pub(crate) type OnExit = unsafe extern "C" fn(PluginId, *mut c_void);
pub(crate) type OnCall = unsafe extern "C" fn(PluginId, c_uint, i64, u64, u64, u64, u64, u64, u64, u64, u64);
pub(crate) type OnReturn = unsafe extern "C" fn(PluginId, c_uint, i64, i64);

macro_rules! interface {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The entry points.
        pub(crate) struct Interface {
            version: c_int,
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            insn_data: *mut c_void,
        }

        impl Interface {
            /// Looks every entry point up; the name of the first that is missing otherwise.
            ///
            /// # Safety
            ///
            /// `version` is the one QEMU gave.
            pub(crate) unsafe fn find(version: c_int) -> Result<Interface, &'static str> {
                Ok(Interface {
                    version,
                    $($name: {
                        const NAME: &str = concat!("qemu_plugin_", stringify!($name), "\0");
                        let address = symbol(NAME)?;
                        // SAFETY: a function of this name has this type in every version from 1 to 4.
                        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(address) }
                    },)*
                    insn_data: symbol("qemu_plugin_insn_data\0")?,
                })
            }
        }
    };
}

interface! {
    register_vcpu_exit_cb: fn(PluginId, OnCpu);
    register_vcpu_tb_trans_cb: fn(PluginId, OnBlockTranslated);
    register_vcpu_tb_exec_cb: fn(*mut Tb, OnBlock, c_int, *mut c_void);
    register_vcpu_mem_cb: fn(*mut Insn, OnAccess, c_int, c_int, *mut c_void);
    register_vcpu_syscall_cb: fn(PluginId, OnCall);
    register_vcpu_syscall_ret_cb: fn(PluginId, OnReturn);
    register_atexit_cb: fn(PluginId, OnExit, *mut c_void);
    tb_n_insns: fn(*const Tb) -> usize;
    tb_vaddr: fn(*const Tb) -> u64;
    tb_get_insn: fn(*const Tb, usize) -> *mut Insn;
    insn_size: fn(*const Insn) -> usize;
    insn_haddr: fn(*const Insn) -> *mut c_void;
    path_to_binary: fn() -> *const c_char;
    mem_is_store: fn(u32) -> bool;
}

// SAFETY: addresses of functions.
unsafe impl Send for Interface {}
// SAFETY: as above.
unsafe impl Sync for Interface {}

fn symbol(name: &'static str) -> Result<*mut c_void, &'static str> {
    let text = CStr::from_bytes_with_nul(name.as_bytes()).map_err(|_| name)?;
    // SAFETY: a terminated string.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, text.as_ptr()) };
    if address.is_null() { Err(name.trim_end_matches('\0')) } else { Ok(address) }
}

impl Interface {
    /// Registers what is called for all of the program.
    ///
    /// # Safety
    ///
    /// `id` is the one QEMU gave at install.
    pub(crate) unsafe fn register(
        &self,
        id: PluginId,
        translated: OnBlockTranslated,
        cpu_exit: OnCpu,
        call: OnCall,
        returned: OnReturn,
        exit: OnExit,
    ) {
        // SAFETY: QEMU's functions, with callbacks of the types they take.
        unsafe {
            (self.register_vcpu_tb_trans_cb)(id, translated);
            (self.register_vcpu_exit_cb)(id, cpu_exit);
            (self.register_vcpu_syscall_cb)(id, call);
            (self.register_vcpu_syscall_ret_cb)(id, returned);
            (self.register_atexit_cb)(id, exit, std::ptr::null_mut());
        }
    }

    /// Number of instructions and address of a block.
    ///
    /// # Safety
    ///
    /// Of this and the next five: called while `tb` is being translated, with what QEMU gave.
    pub(crate) unsafe fn block(&self, tb: *const Tb) -> (usize, u64) {
        // SAFETY: the caller's promise.
        unsafe { ((self.tb_n_insns)(tb), (self.tb_vaddr)(tb)) }
    }

    /// One of its instructions.
    ///
    /// # Safety
    ///
    /// See [`Interface::block`].
    pub(crate) unsafe fn instruction(&self, tb: *const Tb, index: usize) -> *mut Insn {
        // SAFETY: the caller's promise.
        unsafe { (self.tb_get_insn)(tb, index) }
    }

    /// Appends an instruction's bytes.
    ///
    /// # Safety
    ///
    /// See [`Interface::block`].
    pub(crate) unsafe fn append_bytes(&self, insn: *const Insn, code: &mut Vec<u8>) {
        // SAFETY: the caller's promise; the type is that of QEMU's version, and what it returns holds as many bytes.
        unsafe {
            let bytes = (self.insn_size)(insn).min(16);
            if self.version >= 3 {
                type Copy = unsafe extern "C" fn(*const Insn, *mut c_void, usize) -> usize;
                let copy = std::mem::transmute::<*mut c_void, Copy>(self.insn_data);
                let mut buffer = [0_u8; 16];
                let copied = copy(insn, buffer.as_mut_ptr().cast(), bytes);
                code.extend(buffer.iter().take(copied));
            } else {
                type Point = unsafe extern "C" fn(*const Insn) -> *const u8;
                let point = std::mem::transmute::<*mut c_void, Point>(self.insn_data);
                let data = point(insn);
                if !data.is_null() {
                    code.extend_from_slice(std::slice::from_raw_parts(data, bytes));
                }
            }
        }
    }

    /// Where in QEMU's own address space an instruction lies; null if it does not say.
    ///
    /// # Safety
    ///
    /// See [`Interface::block`].
    pub(crate) unsafe fn host_address(&self, insn: *const Insn) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { (self.insn_haddr)(insn) as u64 }
    }

    /// Has `callback` called whenever the block is entered.
    ///
    /// # Safety
    ///
    /// See [`Interface::block`]; `data` outlives QEMU.
    pub(crate) unsafe fn on_block(&self, tb: *mut Tb, callback: OnBlock, data: *mut c_void) {
        // SAFETY: the caller's promise.
        unsafe { (self.register_vcpu_tb_exec_cb)(tb, callback, NO_REGISTERS, data) }
    }

    /// Has `callback` called for each load and store of the instruction.
    ///
    /// # Safety
    ///
    /// See [`Interface::block`].
    pub(crate) unsafe fn on_access(&self, insn: *mut Insn, callback: OnAccess, data: *mut c_void) {
        // SAFETY: the caller's promise.
        unsafe { (self.register_vcpu_mem_cb)(insn, callback, NO_REGISTERS, LOADS_AND_STORES, data) }
    }

    /// Whether an access's description says what it is where [`kind`] looks for it, as it does in every version so far.
    pub(crate) fn describes_accesses(&self) -> bool {
        // SAFETY: looks at the bits of a number.
        (1..4_u32).all(|bits| unsafe { (self.mem_is_store)(bits << 16) } == (bits & STORES != 0))
    }

    /// The program that is run.
    pub(crate) fn program(&self) -> Option<String> {
        // SAFETY: a string of QEMU's that we own, or null.
        unsafe {
            let path = (self.path_to_binary)();
            (!path.is_null()).then(|| CStr::from_ptr(path).to_string_lossy().into_owned())
        }
    }
}
