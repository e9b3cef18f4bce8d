"""Identifiers in every place of a DICOM file where somebody may have written one."""

from __future__ import annotations

import warnings
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

SEED = "ZQXJ"
TEXT_KEYWORDS = [
    *("PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientNames", "OtherPatientIDs", "PatientBirthName"),
    *("PatientMotherBirthName", "PatientAddress", "PatientTelephoneNumbers", "MilitaryRank", "BranchOfService"),
    *("MedicalRecordLocator", "EthnicGroup", "Occupation", "AdditionalPatientHistory", "PatientComments"),
    *("PatientReligiousPreference", "ResponsiblePerson", "ResponsibleOrganization", "PatientInsurancePlanCodeSequence"),
    *("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "ReferringPhysicianName"),
    *("ReferringPhysicianAddress", "ReferringPhysicianTelephoneNumbers", "PhysiciansOfRecord", "OperatorsName"),
    *(
        "PerformingPhysicianName",
        "NameOfPhysiciansReadingStudy",
        "RequestingPhysician",
        "AdmittingDiagnosesDescription",
    ),
    *("AccessionNumber", "StudyID", "StationName", "DeviceSerialNumber", "ProtocolName", "SeriesDescription"),
    *("StudyDescription", "ImageComments", "RequestedProcedureDescription", "PerformedProcedureStepDescription"),
    *("PerformedProcedureStepID", "RequestedProcedureID", "StudyComments", "RequestAttributesSequence"),
    *("PerformedStationName", "PerformedLocation", "PerformedStationAETitle", "SoftwareVersions", "DetectorID"),
    *("ContentCreatorName", "VerifyingObserverName", "PersonName", "DerivationDescription", "AcquisitionComments"),
    *("CurrentPatientLocation", "PatientInstitutionResidence", "VisitComments", "AdmissionID", "ServiceEpisodeID"),
    *("DeviceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"),
]
UID_SEED = "2.25.7391046582"


def seeded(original: Path, kind: str, seed: str = SEED) -> Dataset:
    """A real file with over 60 identifiers put into open, private and nested elements. seed : what each begins with"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(original)
        for k, keyword in enumerate(TEXT_KEYWORDS):
            if keyword.endswith("UID"):
                setattr(dataset, keyword, f"{UID_SEED}{k}")
            elif keyword.endswith("Sequence"):
                item = Dataset()
                item.CodeMeaning = f"{seed}{k}"
                inner = Dataset()
                inner.PatientName = f"{seed}^{k}"
                item.ReferencedPatientSequence = Sequence([inner])
                setattr(dataset, keyword, Sequence([item]))
            else:
                setattr(dataset, keyword, f"{seed}{k}"[:16])
        for group in (0x0019, 0x0029, 0x0051, 0x0099):
            block = dataset.private_block(group, f"{seed} CREATOR", create=True)
            block.add_new(0x10, "LO", f"{seed} private")
            block.add_new(0x0A, "LO", f"{seed} private")
        if kind == "enhanced":
            for group in (dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence[0]):
                group.PatientName = f"{seed}^nested"
                group.add_new(Tag(0x0021, 0x0010), "LO", f"{seed} NESTED")
                group.add_new(Tag(0x0021, 0x1010), "LO", f"{seed} nested")
    return dataset
