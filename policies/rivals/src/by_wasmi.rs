//! The guest in wasmi, an interpreter, with the same limits as a policy of ours.

use cprecover::policy::RunLimits;
use wasmi::{
    Config, Engine, Instance, Linker, Memory, Module, Store, StoreLimits, StoreLimitsBuilder, TypedFunc,
};

pub struct Loaded {
    module: Module,
    linker: Linker<StoreLimits>,
    run: RunLimits,
}

impl Loaded {
    pub fn new(wasm: &[u8]) -> Self {
        let engine = Engine::new(Config::default().consume_fuel(true));
        let module = Module::new(&engine, wasm).unwrap();
        Self { module, linker: Linker::new(&engine), run: RunLimits::default() }
    }

    pub fn instance(&self) -> Asked {
        let limits = StoreLimitsBuilder::new()
            .memory_size(self.run.memory_bytes)
            .table_elements(self.run.table_elements)
            .memories(self.run.memories)
            .tables(4)
            .instances(1)
            .trap_on_grow_failure(true)
            .build();
        let mut store = Store::new(self.module.engine(), limits);
        store.limiter(|limits| limits);
        store.set_fuel(self.run.fuel).unwrap();
        let instance: Instance = self.linker.instantiate_and_start(&mut store, &self.module).unwrap();
        Asked {
            alloc: instance.get_typed_func(&store, "alloc").unwrap(),
            decide: instance.get_typed_func(&store, "decide").unwrap(),
            memory: instance.get_memory(&store, "memory").unwrap(),
            store,
            fuel: self.run.fuel,
        }
    }
}

pub struct Asked {
    store: Store<StoreLimits>,
    alloc: TypedFunc<u32, u32>,
    decide: TypedFunc<(u32, u32), u64>,
    memory: Memory,
    fuel: u64,
}

impl Asked {
    pub fn decide(&mut self, json: &[u8]) -> Vec<u8> {
        self.store.set_fuel(self.fuel).unwrap();
        let len = u32::try_from(json.len()).unwrap();
        let at = self.alloc.call(&mut self.store, len).unwrap();
        self.memory.write(&mut self.store, at as usize, json).unwrap();
        let place = self.decide.call(&mut self.store, (at, len)).unwrap();
        let (at, len) = ((place >> 32) as usize, (place & u64::from(u32::MAX)) as usize);
        self.memory.data(&self.store)[at..at + len].to_vec()
    }

    pub fn fuel_used(&self) -> u64 {
        self.fuel - self.store.get_fuel().unwrap()
    }
}
