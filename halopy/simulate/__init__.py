"""Simulated sky: the radio sources around clusters, as a survey sees them."""

from halopy.simulate.chunks import read_cutouts, write_cutouts
from halopy.simulate.diffuse import exponential_halo
from halopy.simulate.injection import diffuse_part, inject
from halopy.simulate.observe import Artefacts
from halopy.simulate.population import PowerMass, halo_flux, relations
from halopy.simulate.sources import MIX, scenes
from halopy.simulate.survey_cutouts import cutouts
from halopy.simulate.survey_field import field

__all__ = ["MIX", "Artefacts", "PowerMass", "cutouts", "diffuse_part", "exponential_halo", "field", "halo_flux",
           "inject", "read_cutouts", "relations", "scenes", "write_cutouts"]
