"""A Hydra application."""

import json

import hydra
from omegaconf import DictConfig, OmegaConf


@hydra.main(config_path="conf", config_name="config", version_base=None)
def main(config: DictConfig) -> None:
    """Print the configuration."""
    print(json.dumps(OmegaConf.to_container(config)))


if __name__ == "__main__":
    main()
